//! The accuracy suite, as CI runs it: every scenario that this kernel can run is exact.

use std::time::Duration;

use anyhow::{Result, ensure};
use egress_tests::accuracy::{Verdict, report, run};
use egress_tests::require::ready;

/// How long it may take, without waiting for the host: it is run often.
const LONGEST: Duration = Duration::from_secs(90);

#[test]
fn every_byte_is_told_with_its_process() -> Result<()> {
    if !ready(&["runc"]) {
        return Ok(());
    }
    let suite = run::run(|_| true, |_| {})?;
    println!("{}", report::table(&suite));
    let ran = suite.outcomes.iter();
    let ran = ran.filter(|outcome| !matches!(outcome.verdict, Verdict::Skipped(_)));
    // What a kernel may lack is little: a probe that is wrong must not empty the table.
    let (ran, all) = (ran.count(), suite.outcomes.len());
    ensure!(ran * 10 >= all * 8, "only {ran} of {all} scenarios ran");
    let wrong: Vec<_> = suite.wrong().map(|outcome| outcome.scenario.name).collect();
    ensure!(wrong.is_empty(), "not exact: {}", wrong.join(", "));
    ensure!(suite.took < LONGEST, "it took {:?}", suite.took);
    Ok(())
}
