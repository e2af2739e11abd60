//! DNS as nobody should speak it, and much of it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::send::socket;

/// Header of a message (RFC 1035 4.1.1).
const HEADER: usize = 12;

/// Asks for the addresses of `count` names; how many answers came.
pub fn ask(to: SocketAddr, prefix: &str, count: u32) -> Result<Value> {
    let socket = socket(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(to)?;
    let mut answered = 0;
    for number in 0..count {
        let label = format!("{prefix}{number}");
        let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.push(u8::try_from(label.len()).context("a long prefix")?);
        question.extend(label.as_bytes());
        question.extend(b"\x07hostile\x07example\0\0\x01\0\x01");
        socket.send(&question)?;
        socket
            .recv(&mut [0; 1500])
            .with_context(|| format!("no answer about {label}"))?;
        answered += 1;
    }
    Ok(json!({ "pid": std::process::id(), "answers": answered }))
}

/// Answers until standard input ends.
pub fn hostile(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("bind {listen}"))?;
    println!("{}", json!({ "listen": listen.to_string() }));
    let server = socket.try_clone()?;
    std::thread::spawn(move || -> Result<()> {
        let mut number = 0_u32;
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = server.recv_from(&mut buffer)?;
            let question = buffer.get(..length).unwrap_or_default();
            number += 1;
            server.send_to(&answer(question, number), from)?;
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn answer(question: &[u8], number: u32) -> Vec<u8> {
    let mut message = question.to_vec();
    match (question.get(HEADER + 1), message.get_mut(2..8)) {
        (Some(b'n'), Some(header)) => {
            header.copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
            // The question's name, A, IN, a day; an address of 10.0.0.0/8.
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 1, 0x51, 0x80, 0, 4]);
            message.extend((0x0a00_0000 | number).to_be_bytes());
        }
        (Some(b'l'), Some(header)) => {
            header.copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
            let itself = u8::try_from(message.len()).unwrap_or(u8::MAX);
            message.extend([0xc0, itself, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1]);
        }
        _ => {
            for byte in message.iter_mut().skip(3) {
                *byte = byte.wrapping_mul(167).wrapping_add(0xa5);
            }
            if let Some(flags) = message.get_mut(2..4) {
                // An answer, and no error.
                flags.copy_from_slice(&[0x81, 0x80]);
            }
        }
    }
    message
}
