use std::fs;
use std::io::{Read as _, Seek as _};

use super::{Console, rate};
use crate::model::Record;
use crate::outlet::{Outlet as _, samples};

fn written(terminal: bool, color: bool, records: &[Record]) -> String {
    let mut file = tempfile::tempfile().unwrap();
    let mut console = Console::new(samples::host(), file.try_clone().unwrap(), terminal, color);
    for record in records {
        console.record(record).unwrap();
        console.flush().unwrap();
    }
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_pipe_gets_plain_lines() {
    let text = written(false, false, &samples::all());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0].contains(r#"flow 2.0 KiB a\x1b[2J"\\\xff\xe2\x80\xae\x0a{}[4321] -> drop.example\xe2\x80\xae (203.0.113.9):443/tcp public user=backup job=/opt/sync.sh (cron: * * * * * /opt/sync.sh) closed"#), "{text}");
    assert!(lines[1].contains("(no_socket) -> -/ip-47"), "{text}");
    assert!(
        lines[3].contains("ALERT Automated exfiltration, score 87: /opt/sync.sh"),
        "{text}"
    );
    assert!(
        lines[3].contains("in 12 transfers, one about every 60 s, after reading /srv/customers.db"),
        "{text}"
    );
    assert!(
        lines[4].contains("ALERT Coverage dropped, score 70: 4096 bytes left"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
}

#[test]
fn a_terminal_gets_a_table_drawn_again_below_alerts_that_stay() {
    let text = written(
        true,
        true,
        &[samples::flow(), samples::alert(), samples::flow()],
    );
    let frames: Vec<_> = text.split("\x1b[3A\r\x1b[J").collect();
    assert_eq!(frames.len(), 3, "{text:?}");
    assert!(
        frames[0].contains("RATE") && frames[0].contains("[4321]") == frames[2].contains("[4321]")
    );
    let (alert, table) = (
        frames[1].find("ALERT").unwrap(),
        frames[1].find("RATE").unwrap(),
    );
    assert!(alert < table && !frames[2].contains("ALERT"), "{text:?}");
    // Colours and cursor are ours alone.
    let ours = ["\x1b[1m", "\x1b[0m", "\x1b[1;31m"]
        .iter()
        .fold(text.replace("\x1b[3A\r\x1b[J", ""), |text, code| {
            text.replace(code, "")
        });
    assert!(!ours.contains('\u{1b}'), "{ours:?}");
    assert!(!written(true, false, &[samples::alert()]).contains("\x1b[1"));
}

#[test]
fn rates() {
    assert_eq!(rate(1000, 0), 1000);
    assert_eq!(rate(10_000, 10_000_000_000), 1000);
    assert_eq!(rate(u64::MAX, 0), u64::MAX);
}

/// `/dev/full` takes nothing (Linux `drivers/char/mem.c`).
#[test]
fn what_nobody_takes_is_bounded() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut console = Console::new(samples::host(), full, false, false);
    console.record(&samples::flow()).unwrap();
    assert!(console.flush().is_err());
    while console.record(&samples::flow()).is_ok() {}
    assert!(console.pending.len() < (1 << 20) + 1000);
}

/// More than is held between two flushes: ten thousand connections of a second.
#[test]
fn a_burst_loses_nothing() {
    const RECORDS: usize = 10_000;
    let mut file = tempfile::tempfile().unwrap();
    let mut console = Console::new(samples::host(), file.try_clone().unwrap(), false, false);
    for _ in 0..RECORDS {
        console.record(&samples::flow()).unwrap();
    }
    console.flush().unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(text.len() > 1 << 20 && text.lines().count() == RECORDS);
}
