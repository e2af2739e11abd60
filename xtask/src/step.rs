//! Says what happens, and shows that long work goes on. All on standard error: standard output belongs to the
//! daemon and to the tests.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const POLL: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_secs(10);
/// Lines of a failed program's output that are shown.
const TAIL: usize = 40;

/// Prints one line.
pub fn say(what: &str) {
    eprintln!("xtask: {what}");
}

/// Runs a program, its output visible, and says how long it took.
///
/// # Errors
/// When it cannot be started. How it ended is for the caller to judge.
pub fn show(what: &str, command: &mut Command) -> Result<ExitStatus> {
    say(what);
    let begun = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    let verdict = if status.success() { "done" } else { "FAILED" };
    say(&format!("{what}: {verdict} in {}", took(begun)));
    Ok(status)
}

/// Runs a talkative program: shows its last line every ten seconds, and its last lines if it fails.
///
/// # Errors
/// When it cannot be started or fails.
pub fn quietly(what: &str, command: &mut Command) -> Result<()> {
    say(what);
    let begun = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let readers = [
        child.stdout.take().map(|pipe| gather(pipe, &lines)),
        child.stderr.take().map(|pipe| gather(pipe, &lines)),
    ];
    let mut told = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if told.elapsed() >= TICK {
            told = Instant::now();
            let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            let last = lines.last().map_or("", String::as_str);
            say(&format!("  {} so far: {last}", took(begun)));
        }
        thread::sleep(POLL);
    };
    for reader in readers.into_iter().flatten() {
        // A reader that panicked has nothing more to show.
        let _ = reader.join();
    }
    if !status.success() {
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
            eprintln!("  {line}");
        }
        bail!("{command:?} failed after {} ({status})", took(begun));
    }
    say(&format!("  done in {}", took(begun)));
    Ok(())
}

fn gather(
    pipe: impl Read + Send + 'static,
    lines: &Arc<Mutex<Vec<String>>>,
) -> thread::JoinHandle<()> {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if !line.is_empty() {
                lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        }
    })
}

fn took(begun: Instant) -> String {
    format!("{:.1} s", begun.elapsed().as_secs_f64())
}
