//! QUIC Initial packets to the handshake bytes in them (RFC 9000, 9001, 9369).
//!
//! Their keys follow from what is in the packet itself: this is no secret, only a guard against middleboxes. The
//! ciphers are those of RustCrypto, without C, and of the family that hashes scripts here.

use aes::Aes128;
use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use aes_gcm::aead::AeadInPlace as _;
use aes_gcm::{Aes128Gcm, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

use super::Malformed;

/// Longest connection id of these versions (RFC 9000 17.2).
const ID_MAX: usize = 20;
const TAG: usize = 16;
/// The sample for header protection begins here behind the packet number's first byte, and is this long (RFC 9001 5.4.2).
const SAMPLE_AT: usize = 4;
const SAMPLE: usize = 16;
/// Packets in one datagram, and frames in one packet, that are read.
const PACKETS_MAX: usize = 4;
const FRAMES_MAX: usize = 512;

/// A version's constants.
struct Version {
    number: u32,
    /// First byte of an Initial, its upper half.
    initial: u8,
    salt: [u8; 20],
    labels: [&'static str; 3],
}

/// RFC 9001 5.2 and RFC 9369 3.3.
const VERSIONS: [Version; 2] = [
    Version {
        number: 1,
        initial: 0xc0,
        salt: [
            0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8,
            0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
        ],
        labels: ["quic key", "quic iv", "quic hp"],
    },
    Version {
        number: 0x6b33_43cf,
        initial: 0xd0,
        salt: [
            0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26,
            0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
        ],
        labels: ["quicv2 key", "quicv2 iv", "quicv2 hp"],
    },
];

/// A piece of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: usize,
    pub(super) bytes: Vec<u8>,
}

/// The pieces in the Initial packets of a datagram. `first_id` is the destination connection id of the connection's
/// first packet, when one was seen: it makes the keys also after the server has chosen another. It is set here.
pub(super) fn pieces(datagram: &[u8], first_id: &mut Vec<u8>) -> Result<Vec<Piece>, Malformed> {
    let mut pieces = Vec::new();
    let mut rest = datagram;
    for _ in 0..PACKETS_MAX {
        // What is not an Initial (0-RTT, padding, an empty rest) tells no name.
        let Some(packet) = Packet::read(rest)? else {
            break;
        };
        rest = packet.behind;
        let known = (!first_id.is_empty()).then(|| open(&packet, first_id));
        let plain = known
            .flatten()
            .or_else(|| open(&packet, packet.id))
            .ok_or(Malformed::Quic)?;
        if first_id.is_empty() {
            packet.id.clone_into(first_id);
        }
        frames(&plain, &mut pieces)?;
    }
    Ok(pieces)
}

/// An Initial packet, still protected.
struct Packet<'a> {
    version: &'static Version,
    /// Destination connection id.
    id: &'a [u8],
    /// Up to the packet number.
    header: &'a [u8],
    /// Packet number, payload and tag.
    protected: &'a [u8],
    behind: &'a [u8],
}

impl<'a> Packet<'a> {
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader(bytes);
        let Some(&[first, a, b, c, d]) = reader.take(5).and_then(|head| head.first_chunk()) else {
            return Ok(None);
        };
        let number = u32::from_be_bytes([a, b, c, d]);
        let version = VERSIONS
            .iter()
            .find(|version| version.number == number && version.initial == first & 0xf0);
        let Some(version) = version else {
            return Ok(None);
        };
        let rest = |reader: &mut Reader<'a>| {
            let id = reader.prefixed().filter(|id| id.len() <= ID_MAX)?;
            reader.prefixed().filter(|id| id.len() <= ID_MAX)?;
            let token = reader.varint()?;
            reader.take(token)?;
            let length = reader.varint()?;
            let header = bytes.get(..bytes.len() - reader.0.len())?;
            Some(Self {
                version,
                id,
                header,
                protected: reader.take(length)?,
                behind: reader.0,
            })
        };
        rest(&mut reader).ok_or(Malformed::Quic).map(Some)
    }
}

/// Removes the protection with the keys of a connection id (RFC 9001 5.2 to 5.4).
fn open(packet: &Packet<'_>, id: &[u8]) -> Option<Vec<u8>> {
    let initial = Hkdf::<Sha256>::new(Some(&packet.version.salt), id);
    let mut secret = [0; 32];
    expand(&initial, "client in", &mut secret)?;
    let secret = Hkdf::<Sha256>::from_prk(&secret).ok()?;
    let ([key_label, iv_label, hp_label], mut key, mut iv, mut hp) =
        (packet.version.labels, [0; 16], [0; 12], [0; 16]);
    expand(&secret, key_label, &mut key)?;
    expand(&secret, iv_label, &mut iv)?;
    expand(&secret, hp_label, &mut hp)?;

    let sample: [u8; SAMPLE] = *packet.protected.get(SAMPLE_AT..)?.first_chunk()?;
    let mut mask = sample.into();
    Aes128::new(&hp.into()).encrypt_block(&mut mask);
    let mask: [u8; SAMPLE] = mask.into();
    let mut header = packet.header.to_vec();
    let first = header.first_mut()?;
    *first ^= mask[0] & 0x0f;
    let number_length = usize::from(*first & 3) + 1;
    let (number, sealed) = packet.protected.split_at_checked(number_length)?;
    header.extend(
        number
            .iter()
            .zip(&mask[1..])
            .map(|(byte, mask)| byte ^ mask),
    );
    // The nonce is the iv with the packet number, which is small yet and so not cut, in its end.
    let number = header.get(packet.header.len()..)?;
    for (byte, number) in iv.iter_mut().rev().zip(number.iter().rev()) {
        *byte ^= number;
    }
    let (sealed, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
    let mut plain = sealed.to_vec();
    Aes128Gcm::new(&key.into())
        .decrypt_in_place_detached(
            Nonce::from_slice(&iv),
            &header,
            &mut plain,
            Tag::from_slice(tag),
        )
        .ok()?;
    Some(plain)
}

/// HKDF-Expand-Label with an empty context (RFC 8446 7.1).
fn expand(secret: &Hkdf<Sha256>, label: &str, out: &mut [u8]) -> Option<()> {
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = u8::try_from("tls13 ".len() + label.len()).ok()?;
    let parts: [&[u8]; 5] = [&length, &[label_length], b"tls13 ", label.as_bytes(), &[0]];
    secret.expand_multi_info(&parts, out).ok()
}

/// The CRYPTO frames of a packet; others that an Initial may have are skipped (RFC 9000 12.4, 19).
fn frames(plain: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Malformed> {
    let mut reader = Reader(plain);
    for _ in 0..FRAMES_MAX {
        // PADDING.
        let padding = reader.0.iter().take_while(|byte| **byte == 0).count();
        reader.0 = &reader.0[padding..];
        let Some(kind) = reader.varint() else {
            return Ok(());
        };
        let read = match kind {
            // PING.
            1 => Some(()),
            // ACK, and with ECN counts.
            2 | 3 => acknowledgement(&mut reader, kind == 3),
            6 => crypto(&mut reader).map(|piece| pieces.push(piece)),
            // CONNECTION_CLOSE, or what may not be here: no names behind it.
            _ => return Ok(()),
        };
        read.ok_or(Malformed::Quic)?;
    }
    Ok(())
}

fn crypto(reader: &mut Reader<'_>) -> Option<Piece> {
    let (offset, length) = (reader.varint()?, reader.varint()?);
    Some(Piece {
        offset,
        bytes: reader.take(length)?.to_vec(),
    })
}

fn acknowledgement(reader: &mut Reader<'_>, ecn: bool) -> Option<()> {
    let (_largest, _delay) = (reader.varint()?, reader.varint()?);
    let ranges = reader.varint()?.min(FRAMES_MAX);
    // The first range, a gap and a length for each further one, three counts of ECN marks.
    for _ in 0..1 + 2 * ranges + if ecn { 3 } else { 0 } {
        reader.varint()?;
    }
    Some(())
}

/// Bytes that are read from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A variable-length integer (RFC 9000 16).
    fn varint(&mut self) -> Option<usize> {
        let first = *self.0.first()?;
        let bytes = self.take(1 << (first >> 6))?;
        let value = bytes
            .iter()
            .skip(1)
            .fold(u64::from(first & 0x3f), |value, byte| {
                value << 8 | u64::from(*byte)
            });
        usize::try_from(value).ok()
    }

    /// Bytes with their number in one byte before them.
    fn prefixed(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?.first().copied()?;
        self.take(length.into())
    }
}
