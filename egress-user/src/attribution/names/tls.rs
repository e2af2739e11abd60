//! ClientHellos to server names.
//!
//! `tls-parser` (rusticata) reads them, because it is made for watching what others send (Suricata has it): it forbids
//! unsafe code, and reads what a server would refuse, which a TLS library does not.

use tls_parser::{
    TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extension,
    parse_tls_message_handshake,
};

use super::{Malformed, shielded};

/// TLS record header, and the type of records that hold a handshake (RFC 8446 5.1).
const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
/// Handshake header: type and length (RFC 8446 4).
const MESSAGE_HEADER: usize = 4;
/// `host_name` (RFC 6066 3).
const HOST_NAME: u8 = 0;
/// Longest name taken over, bytes; no host name is longer than 253 (RFC 1035 2.3.4).
const NAME_MAX: usize = 255;

/// What is known of a ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// Its end is not here yet.
    Incomplete,
    /// The server's name; `None` when the client gave none.
    Name(Option<Box<[u8]>>),
}

/// Reads a ClientHello from TLS records. It may lie in several.
pub(super) fn records(stream: &[u8]) -> Result<Hello, Malformed> {
    let mut handshake = Vec::new();
    let mut rest = stream;
    while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
        let [kind, _, _, high, low] = *header else {
            return Err(Malformed::Tls);
        };
        if kind != HANDSHAKE {
            return Err(Malformed::Tls);
        }
        let length = usize::from(u16::from_be_bytes([high, low])).min(behind.len());
        let (part, next) = behind.split_at(length);
        handshake.extend_from_slice(part);
        rest = next;
        let read = message(&handshake)?;
        if read != Hello::Incomplete {
            return Ok(read);
        }
    }
    Ok(Hello::Incomplete)
}

/// Reads a ClientHello without records around it, as QUIC carries it.
pub(super) fn message(bytes: &[u8]) -> Result<Hello, Malformed> {
    let Some([_, a, b, c]) = bytes.first_chunk::<MESSAGE_HEADER>() else {
        return Ok(Hello::Incomplete);
    };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    let Some(whole) = bytes.get(..MESSAGE_HEADER + length) else {
        return Ok(Hello::Incomplete);
    };
    shielded(|| server_name(whole), Malformed::Tls)
}

fn server_name(message: &[u8]) -> Result<Hello, Malformed> {
    let Ok((_, TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)))) =
        parse_tls_message_handshake(message)
    else {
        return Err(Malformed::Tls);
    };
    let mut extensions = hello.ext.unwrap_or_default();
    while !extensions.is_empty() {
        let (rest, extension) =
            parse_tls_client_hello_extension(extensions).map_err(|_| Malformed::Tls)?;
        if let TlsExtension::SNI(names) = extension {
            let name = names
                .iter()
                .find(|(kind, name)| kind.0 == HOST_NAME && !name.is_empty())
                .map(|(_, name)| Box::from(&name[..name.len().min(NAME_MAX)]));
            return Ok(Hello::Name(name));
        }
        if rest.len() >= extensions.len() {
            return Err(Malformed::Tls);
        }
        extensions = rest;
    }
    Ok(Hello::Name(None))
}
