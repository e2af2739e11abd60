//! What the guests said, as tables: docs/kernels.md, and the verifier's budget.
//!
//! A guest's lines begin with `@`; the tests print them beside their own output: `@ feature NAME STATE METHOD`,
//! `@ method FEATURE METHOD STATE REASON`, `@ program NAME INSTRUCTIONS`, and, from the guest's script, `@ step NAME CODE SECONDS`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::archive::Kernel;
use super::boot::Session;

/// A program may grow by this much, percent, before somebody has to say that it should.
const GROWTH: u64 = 20;

/// One kernel's findings.
#[derive(Default)]
struct Findings {
    /// Feature to method.
    features: BTreeMap<String, String>,
    /// Feature and method to verdict.
    methods: BTreeMap<(String, String), String>,
    /// Program to instructions.
    programs: BTreeMap<String, u64>,
    /// Step to verdict.
    steps: BTreeMap<String, String>,
    /// What went wrong.
    wrong: Vec<String>,
}

/// All kernels' findings.
pub struct Report {
    kernels: Vec<(&'static str, String, Findings)>,
    steps: Vec<&'static str>,
}

impl Report {
    /// Reads what the guests said. `steps`: what each of them should have done.
    #[must_use]
    pub fn of(kernels: &[Kernel], sessions: &[Session], steps: &[&'static str]) -> Self {
        let kernels = kernels
            .iter()
            .zip(sessions)
            .map(|(kernel, session)| {
                (
                    kernel.line,
                    kernel.release.clone(),
                    findings(session, steps),
                )
            })
            .collect();
        Self {
            kernels,
            steps: steps.to_vec(),
        }
    }

    /// What went wrong, with the kernel.
    pub fn wrong(&self) -> impl Iterator<Item = String> + '_ {
        self.kernels.iter().flat_map(|(line, _, found)| {
            found
                .wrong
                .iter()
                .map(move |what| format!("kernel {line}: {what}"))
        })
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::from(
            "# Kernels\n\nWritten by `cargo xtask vm`, which boots Debian's kernels in virtual machines and runs the tests there: \
             emulated, so nothing here says anything about speed.\n\n",
        );
        let _ = writeln!(page, "| line | release |\n|---|---|");
        for (line, release, _) in &self.kernels {
            let _ = writeln!(page, "| {line} | `{release}` |");
        }
        page.push_str("\n## Tests\n\n");
        self.table(&mut page, "test", &self.steps, |found, step| {
            found.steps.get(*step).cloned()
        });
        page.push_str("\n## What each feature runs on\n\n");
        let features: BTreeSet<_> = self.all(|found| found.features.keys().cloned().collect());
        let features: Vec<_> = features.into_iter().collect();
        self.table(&mut page, "feature", &features, |found, feature| {
            found
                .features
                .get(feature)
                .map(|method| format!("`{method}`"))
        });
        page.push_str("\n## Every method\n\n`ok`: loaded and attached. `absent`: this kernel does not offer it.\n\n");
        let methods: BTreeSet<_> = self.all(|found| found.methods.keys().cloned().collect());
        let rows: Vec<_> = methods.into_iter().collect();
        let names: Vec<_> = rows
            .iter()
            .map(|(feature, method)| format!("{feature}={method}"))
            .collect();
        self.table(&mut page, "method", &names, |found, name| {
            let (feature, method) = name.split_once('=')?;
            found
                .methods
                .get(&(feature.to_owned(), method.to_owned()))
                .cloned()
        });
        page.push_str(
            "\n## Instructions that the verifier goes through\n\nIts limit is 1,000,000 for each program. 5.10 does not tell.\n\n",
        );
        let programs: BTreeSet<_> = self.all(|found| found.programs.keys().cloned().collect());
        let programs: Vec<_> = programs.into_iter().collect();
        self.table(&mut page, "program", &programs, |found, program| {
            found.programs.get(program).map(ToString::to_string)
        });
        page
    }

    /// Compares with the budget in `file`; writes it anew when `bless`. Returns what grew too much.
    ///
    /// # Errors
    /// When the file cannot be read or written, or makes no sense.
    pub fn budget(&self, file: &Path, bless: bool) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut budget = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split('\t');
            let entry = (|| {
                let (program, kernel) = (words.next()?, words.next()?);
                Some((
                    (program.to_owned(), kernel.to_owned()),
                    words.next()?.parse::<u64>().ok()?,
                ))
            })();
            let (key, value) = entry.with_context(|| format!("{}: {line}", file.display()))?;
            budget.insert(key, value);
        }
        let mut grown = Vec::new();
        for (line, _, found) in &self.kernels {
            for (program, now) in &found.programs {
                let key = (program.clone(), (*line).to_owned());
                match budget.get(&key) {
                    Some(then) if *now * 100 > *then * (100 + GROWTH) => grown.push(format!(
                        "{program} on kernel {line}: the verifier goes through {now} instructions, {then} are in {}",
                        file.display()
                    )),
                    None if !bless => grown.push(format!(
                        "{program} on kernel {line}: {now} instructions, and {} has no figure for it",
                        file.display()
                    )),
                    _ => {}
                }
                if bless {
                    budget.insert(key, *now);
                }
            }
        }
        if bless {
            let mut text = String::from(
                "# Instructions that the verifier goes through: program, kernel, instructions. Written by `cargo xtask vm --bless`.\n",
            );
            for ((program, kernel), instructions) in budget {
                let _ = writeln!(text, "{program}\t{kernel}\t{instructions}");
            }
            std::fs::write(file, text)?;
            return Ok(Vec::new());
        }
        Ok(grown)
    }

    fn all<T: Ord>(&self, of: impl Fn(&Findings) -> Vec<T>) -> BTreeSet<T> {
        self.kernels
            .iter()
            .flat_map(|(.., found)| of(found))
            .collect()
    }

    fn table<R: AsRef<str>>(
        &self,
        page: &mut String,
        heading: &str,
        rows: &[R],
        cell: impl Fn(&Findings, &R) -> Option<String>,
    ) {
        let _ = write!(page, "| {heading} |");
        for (line, ..) in &self.kernels {
            let _ = write!(page, " {line} |");
        }
        let _ = writeln!(page, "\n|---|{}", "---|".repeat(self.kernels.len()));
        for row in rows {
            let _ = write!(page, "| {} |", row.as_ref());
            for (.., found) in &self.kernels {
                let _ = write!(
                    page,
                    " {} |",
                    cell(found, row).unwrap_or_else(|| "-".into())
                );
            }
            page.push('\n');
        }
    }
}

/// One guest's lines, understood.
fn findings(session: &Session, steps: &[&'static str]) -> Findings {
    let mut found = Findings::default();
    // The test harness begins a line that the test goes on with.
    let told = session
        .lines
        .iter()
        .filter_map(|line| line.split_once("@ ").map(|(_, told)| told));
    for line in told {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["feature", name, "ok", method, ..] => {
                found.features.insert((*name).into(), (*method).into());
            }
            ["feature", name, state, ..] => {
                found.features.insert((*name).into(), (*state).into());
                found.wrong.push(format!("{name} is {state}"));
            }
            ["method", feature, method, state, ..] => {
                found
                    .methods
                    .insert(((*feature).into(), (*method).into()), (*state).into());
            }
            ["program", name, instructions] => {
                if let Ok(instructions) = instructions.parse() {
                    found.programs.insert((*name).into(), instructions);
                }
            }
            ["step", name, code, seconds] => {
                if *code == "0" {
                    found
                        .steps
                        .insert((*name).into(), format!("passed, {seconds} s"));
                } else {
                    found.steps.insert((*name).into(), "**FAILED**".into());
                    found
                        .wrong
                        .push(format!("{name} failed (exit code {code})"));
                }
            }
            ["splat" | "module", ..] => found.wrong.push(line.to_owned()),
            _ => {}
        }
    }
    for step in steps {
        if !found.steps.contains_key(*step) {
            found.wrong.push(format!("{step} did not come to its end"));
        }
    }
    if !session.ended {
        found.wrong.push(format!(
            "the guest did not come to its end in {:.0} s",
            session.took.as_secs_f64()
        ));
    }
    found
}
