//! The lab by itself, without egress: that its truth is true, and that it leaves nothing behind.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use egress_tests::command::{Running, json};
use egress_tests::lab::{Arrived, Lab, SINK_V4, SINK_V6};
use egress_tests::records::number;
use egress_tests::require::ready;

/// Headers of a datagram, bytes: IPv4 or IPv6 (RFC 791, RFC 8200), UDP (RFC 768).
fn udp_headers(to: SocketAddr) -> u64 {
    8 + if to.is_ipv4() { 20 } else { 40 }
}

#[test]
fn datagrams_arrive_with_their_headers_and_nothing_else() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    for to in [SINK_V4, SINK_V6].map(|address| SocketAddr::new(address, 9000)) {
        let sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
        let to_text = to.to_string();
        let upload = [
            "udp-burst",
            "--to",
            &to_text,
            "--bytes",
            "1000000",
            "--chunk",
            "1000",
            "--pause",
            "200",
        ];
        let told = json(&mut lab.generator(&upload)?)?;
        let truth = lab.truth()?;
        ensure!(number(&told, "app_bytes") == Some(1_000_000), "{told}");
        let wanted = Arrived {
            bytes: 1000 * (1000 + udp_headers(to)),
            packets: 1000,
        };
        ensure!(truth.at("udp", to) == wanted, "{truth:?} is not {wanted:?}");
        let port = truth
            .0
            .iter()
            .find(|flow| flow.source.is_ipv4() == to.is_ipv4())
            .context("a flow")?
            .source
            .port();
        ensure!(
            number(&told, "source_port") == Some(port.into()),
            "{told}, {truth:?}"
        );
        sink.finish()?;
    }
    Ok(())
}

#[test]
fn streams_arrive_in_real_segments() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    for to in [SINK_V4, SINK_V6].map(|address| SocketAddr::new(address, 9000)) {
        let lab = Lab::new()?;
        let mut sink = lab.serve(&lab.sink, &["tcp-sink", "--close-after", "1000000"], to)?;
        let to_text = to.to_string();
        let upload = [
            "tcp-upload",
            "--to",
            &to_text,
            "--bytes",
            "1000000",
            "--chunk",
            "65536",
            "--wait-close",
        ];
        let told = json(&mut lab.generator(&upload)?)?;
        ensure!(number(&told, "app_bytes") == Some(1_000_000), "{told}");
        let received = sink.wait_lines(Duration::from_secs(5), |lines| lines.len() == 2)?;
        ensure!(
            received
                .iter()
                .any(|line| number(line, "received") == Some(1_000_000)),
            "{received:?}"
        );
        // IP and TCP headers with timestamps in each segment, and 8 bytes more of options in the SYN.
        let headers = 32 + if to.is_ipv4() { 20 } else { 40 };
        let Arrived { bytes, packets } = lab.truth()?.at("tcp", to);
        // A busy machine can make TCP believe in a loss and send a segment twice, which is then on the wire twice.
        let twice = bytes
            .checked_sub(1_000_000 + packets * headers + 8)
            .context("bytes are missing")?;
        let most = lab.source.retransmissions()? * (1500 - headers);
        ensure!(
            twice <= most,
            "{bytes} bytes in {packets} packets, of which {most} bytes can be retransmissions"
        );
        let full = 1_000_000_u64.div_ceil(1500 - headers);
        ensure!(
            packets > full,
            "{packets} packets cannot carry it in segments of 1,500 bytes"
        );
    }
    Ok(())
}

#[test]
fn short_processes_are_counted_one_by_one() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let to = SocketAddr::new(SINK_V4, 9000);
    let _sink = lab.serve(&lab.sink, &["udp-sink"], to)?;
    let to_text = to.to_string();
    let told = json(&mut lab.generator(&[
        "repeat",
        "--count",
        "50",
        "--",
        "one-packet",
        "--to",
        &to_text,
    ])?)?;
    let children = told["children"].as_array().context("children")?;
    ensure!(
        children.len() == 50
            && lab.truth()?.at("udp", to)
                == Arrived {
                    bytes: 50 * 128,
                    packets: 50
                }
    );
    Ok(())
}

#[test]
fn servers_answer_across_the_wire() -> Result<()> {
    if !ready(&["curl"]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let to = SocketAddr::new(SINK_V4, 9000);
    let mut http = lab.serve(&lab.sink, &["http"], to)?;
    let file = lab.path("file");
    std::fs::write(&file, vec![b'x'; 2_000_000])?;
    let file = file.to_str().context("a path in UTF-8")?;
    // Beyond 1 MB curl asks first (Expect: 100-continue).
    lab.source.run(
        "curl",
        &["-sS", "--fail", "-T", file, &format!("http://{to}/file")],
    )?;
    let body = lab.source.run(
        "curl",
        &["-sS", "--fail", &format!("http://{to}/bytes/3000")],
    )?;
    ensure!(body.len() == 3000, "{} bytes", body.len());
    let echo = SocketAddr::new(SINK_V6, 9001);
    let _echo = lab.serve(&lab.sink, &["udp-sink", "--echo"], echo)?;
    json(&mut lab.generator(&[
        "ntp-like",
        "--to",
        &echo.to_string(),
        "--count",
        "2",
        "--every",
        "50",
    ])?)?;
    ensure!(
        lab.truth()?.at("udp", echo)
            == Arrived {
                bytes: 2 * 96,
                packets: 2
            }
    );
    let lines = http.wait_lines(Duration::from_secs(5), |lines| lines.len() == 3)?;
    let put = lines.get(1).context("a PUT")?;
    ensure!(
        number(put, "body") == Some(2_000_000) && number(put, "received") > Some(2_000_000),
        "{put}"
    );
    ensure!(
        lines.get(2).and_then(|get| number(get, "body")) == Some(0),
        "{lines:?}"
    );
    Ok(())
}

#[test]
fn nothing_outlives_a_lab_whose_test_panics() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let dir = lab.dir().to_owned();
    let namespaces = [
        std::fs::read_link(lab.source.path())?,
        std::fs::read_link(lab.sink.path())?,
    ];
    let panicked = std::thread::spawn(move || -> Result<()> {
        let _ended_by_us = lab.serve(&lab.sink, &["tcp-sink"], SocketAddr::new(SINK_V4, 9000))?;
        let _group = Running::start(
            lab.source.command("sh").args(["-c", "sleep 60 & sleep 60"]),
            lab.dir(),
        )?;
        std::thread::sleep(Duration::from_millis(100));
        panic!("on purpose");
    });
    ensure!(panicked.join().is_err(), "it panicked");
    ensure!(!dir.exists(), "{} is still there", dir.display());
    // The kernel ends a group asynchronously.
    egress_tests::wait_for(
        "all to leave the namespaces",
        Duration::from_secs(5),
        || {
            let inside = std::fs::read_dir("/proc")?.flatten().find_map(|process| {
                let namespace = std::fs::read_link(process.path().join("ns/net")).ok()?;
                namespaces.contains(&namespace).then(|| process.path())
            });
            Ok(inside.is_none().then_some(()))
        },
    )
}
