//! DNS answers to names of addresses.
//!
//! The `domain` crate of NLnet Labs reads them, because it is kept by those who make Unbound and NSD, reads in place and only
//! what it is asked for, and bounds what a message can make it do: compression pointers, aliases, counts.

use std::net::IpAddr;

use domain::base::iana::Class;
use domain::base::name::ToLabelIter as _;
use domain::base::{Message, ParsedName};
use domain::rdata::svcb::Https;
use domain::rdata::svcb::value::{Ipv4Hint, Ipv6Hint};
use domain::rdata::{A, Aaaa};

use super::{Malformed, shielded};
use crate::model::NameSource;

/// Addresses taken from one answer. A message of 512 bytes has room for 30.
const ADDRESSES_MAX: usize = 64;

/// One address of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ip: IpAddr,
    /// Seconds.
    pub(super) ttl: u32,
    pub(super) source: NameSource,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The name that was asked for, lower case, without the dot at its end.
    pub(super) name: Box<str>,
    pub(super) addresses: Vec<Address>,
}

/// Reads an answer; `None` when it gives no address. Of a message that was cut, what is there.
///
/// Taken are addresses of the name asked for, also over aliases (CNAME), and hints of its HTTPS record: never those of
/// other names in the same message, which whoever answers could put there.
pub(super) fn read(message: &[u8], cut: bool) -> Result<Option<Answer>, Malformed> {
    shielded(|| read_answer(message, cut), Malformed::Dns)
}

fn read_answer(message: &[u8], cut: bool) -> Result<Option<Answer>, Malformed> {
    let message = Message::from_octets(message).map_err(|_| Malformed::Dns)?;
    let header = message.header();
    if !header.qr() {
        return Err(Malformed::Dns);
    }
    if header.tc() && message.header_counts().ancount() == 0 || message.is_error() {
        return Ok(None);
    }
    let mut questions = message.question();
    let question = match questions.next() {
        Some(Ok(question)) => question,
        Some(Err(_)) => return Err(Malformed::Dns),
        None => return Ok(None),
    };
    let answers = message.answer().map_err(|_| Malformed::Dns)?;
    // More aliases than anybody follows.
    let canonical = message.canonical_name().ok_or(Malformed::Dns)?;
    let mut addresses = Vec::new();
    for record in answers {
        if addresses.len() >= ADDRESSES_MAX {
            break;
        }
        let record = match record {
            Ok(record) => record,
            Err(_) if cut => break,
            Err(_) => return Err(Malformed::Dns),
        };
        if record.class() != Class::IN || record.owner() != canonical {
            continue;
        }
        let ttl = record.ttl().as_secs();
        let mut take = |ip, source| {
            if addresses.len() < ADDRESSES_MAX {
                addresses.push(Address { ip, ttl, source });
            }
        };
        let malformed = |_| Malformed::Dns;
        if let Some(a) = record.to_record::<A>().map_err(malformed)? {
            take(IpAddr::V4(a.data().addr()), NameSource::Dns);
        } else if let Some(aaaa) = record.to_record::<Aaaa>().map_err(malformed)? {
            take(
                IpAddr::V6(aaaa.data().addr()).to_canonical(),
                NameSource::Dns,
            );
        } else if let Some(https) = record
            .to_record::<Https<_, ParsedName<_>>>()
            .map_err(malformed)?
        {
            let params = https.data().params();
            if let Some(hint) = params.first::<Ipv4Hint<_>>() {
                hint.iter()
                    .for_each(|ip| take(IpAddr::V4(ip), NameSource::HttpsHint));
            }
            if let Some(hint) = params.first::<Ipv6Hint<_>>() {
                hint.iter()
                    .for_each(|ip| take(IpAddr::V6(ip), NameSource::HttpsHint));
            }
        }
    }
    if addresses.is_empty() {
        return Ok(None);
    }
    let name = shown(question.qname());
    Ok((!name.is_empty()).then_some(Answer { name, addresses }))
}

/// In presentation format (RFC 1035 5.1: what is not printable as `\DDD`), at most 1,003 characters; lower case, as names
/// are equal without case (RFC 4343). Without the labels that say which service of the name was asked for
/// (`_8443._https`, RFC 9460 2.3).
fn shown(name: &ParsedName<&[u8]>) -> Box<str> {
    let mut shown = String::new();
    for label in name.iter_labels() {
        if label.is_root() || shown.is_empty() && label.as_slice().first() == Some(&b'_') {
            continue;
        }
        if !shown.is_empty() {
            shown.push('.');
        }
        shown.push_str(&label.to_string());
    }
    shown.make_ascii_lowercase();
    shown.into()
}
