//! The daemon: checks, attaches, loops, ends.

use std::io::IsTerminal as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::pipeline::{Pipeline, SensorHealth, total};
use super::{LOCK, RunError};
use crate::config::{EventsTarget, RunOptions};
use crate::model::{BootTime, HookState, LostDetail};
use crate::outlet::console::Console;
use crate::outlet::http::{self, State};
use crate::outlet::metrics::Metrics;
use crate::outlet::{Host, Jsonl, Outlets};
use crate::sensor::guard::{Guard, Taken};
use crate::sensor::keep::left::{self, Found};
use crate::sensor::keep::pins::Pins;
use crate::sensor::{Drain, Sensor, cgroups::CgroupRoot, clock, fields, privilege};

/// Readings in one drain: a flood that never ends gets no more of them in a row.
const READINGS: usize = 64;
/// How often a live view is told of each flow.
const LIVE: Duration = Duration::from_secs(1);

/// How long an upgrade waits until what the old maps held is written.
const WRITTEN: Duration = Duration::from_secs(5);

/// Runs the daemon until SIGTERM or SIGINT, or until `options.duration` is over.
///
/// # Errors
/// [`RunError`]. Nothing stays attached then.
pub fn run(options: &RunOptions) -> Result<(), RunError> {
    // Everything that can be wrong without touching the kernel comes first.
    privilege::check().map_err(|missing| RunError::NoPrivilege(missing.to_string()))?;
    let btf = options.config.sensor.btf.as_path();
    fields::from_host(btf)?;
    CgroupRoot::find()?;
    let pinned = Pins::find().map(|pins| pins.programs()).unwrap_or_default();
    let _guard = Guard::acquire(Path::new(LOCK), &pinned)
        .map_err(|Taken { pid }| RunError::AlreadyRunning { pid })?;
    let found = left::look()?;
    if let Found::Whole(left) = &found
        && left::alive(&left.state, &left.pins)
    {
        return Err(RunError::AlreadyRunning {
            pid: Some(left.state.daemon_tgid),
        });
    }
    let listener = http::bind(options.listen)?;
    make_state_dir(&options.state_dir)?;
    if let Found::Whole(left) = &found {
        // Before the events file is opened.
        left.kept.recover();
    }
    let metrics = Arc::new(Metrics::new(options.config.metrics.top));
    let outlets = outlets(options, &metrics)?;

    let mut sensor = Sensor::start(&options.config.sensor, btf, found)?;
    let started = clock::boot_now();
    for hook in sensor.hooks() {
        if let Some(reason) = &hook.reason {
            if hook.state == HookState::Ok {
                log::info!("hook {}: {}: {reason}", hook.hook, hook.method);
                continue;
            }
            log::warn!(
                "hook {} ({}): {reason}; without it: {}",
                hook.hook,
                hook.method,
                hook.gives
            );
        }
    }
    let failed = |what: &str, why: &dyn std::fmt::Display| RunError::Failed {
        what: what.into(),
        why: why.to_string(),
    };
    let mut config = options.config.clone();
    if options.console && std::io::stdout().is_terminal() {
        // A person watches.
        config.events.flow_interval = config.events.flow_interval.min(LIVE);
    }
    let mut pipeline = Pipeline::new(&config, started, outlets)
        .map_err(|error| failed("globs of [sensitive]", &error))?;
    if sensor.took_over() {
        pipeline = pipeline.counting_since(sensor.attached());
    }
    pipeline.know(&sensor.owners(), started);
    pipeline.seed(&sensor.seed());
    take_up(&mut sensor, &mut pipeline, options.config.sensor.pin);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("starting the event loop", &error))?;
    runtime.block_on(serve(
        options,
        sensor,
        pipeline,
        listener,
        Arc::new(State::new(metrics)),
    ))
}

/// Tells what an earlier daemon left: the gap, and all that maps which an upgrade replaces still hold.
fn take_up(sensor: &mut Sensor, pipeline: &mut Pipeline, pin: bool) {
    if let Some(gap) = sensor.take_gap() {
        log::warn!(
            "no daemon looked for {:.1} s ({}); {}",
            Duration::from_nanos(gap.end.saturating_sub(gap.start)).as_secs_f64(),
            gap.reason.name(),
            if gap.blind_ns == 0 {
                "the hooks went on counting"
            } else {
                "for a part of that no hook counted"
            }
        );
        pipeline.gap(gap);
    }
    if let Some((drain, journal)) = sensor.poll_before() {
        pipeline.journal().set(journal);
        pipeline.round(drain.at, &drain.observations, sensor.hooks(), 0);
        pipeline.finish(drain.at);
        tell_health(sensor, pipeline, &drain, Vec::new());
        if !pipeline.flush(WRITTEN) {
            log::warn!("an outlet does not write: it may lose what was counted before the upgrade");
        }
        sensor.forget_before(pin);
    }
    pipeline.journal().set(sensor.journal());
}

fn make_state_dir(path: &Path) -> Result<(), RunError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |source| RunError::StateDir {
        path: path.into(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)
}

fn outlets(options: &RunOptions, metrics: &Metrics) -> Result<Outlets, RunError> {
    let host = Host::detect(clock::now());
    let events = &options.config.events;
    let mut outlets = Outlets::default();
    outlets.add(metrics.outlet()).map_err(RunError::Events)?;
    let journal = outlets.journal().clone();
    match &options.events {
        Some(EventsTarget::Stdout) => outlets
            .add(
                Jsonl::stdout(host.clone())
                    .map_err(RunError::Events)?
                    .noting(journal),
            )
            .map_err(RunError::Events)?,
        Some(EventsTarget::File(path)) => {
            outlets
                .add(
                    Jsonl::file(host.clone(), path, events.rotate_bytes, events.keep)
                        .map_err(RunError::Events)?
                        .noting(journal),
                )
                .map_err(RunError::Events)?;
        }
        None => {}
    }
    if options.console {
        outlets
            .add(Console::stdout(host).map_err(RunError::Events)?)
            .map_err(RunError::Events)?;
    }
    Ok(outlets)
}

/// The loop.
async fn serve(
    options: &RunOptions,
    mut sensor: Sensor,
    mut pipeline: Pipeline,
    listener: TcpListener,
    state: Arc<State>,
) -> Result<(), RunError> {
    let failed = |what: &str, error: std::io::Error| RunError::Failed {
        what: what.into(),
        why: error.to_string(),
    };
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| failed("waiting for SIGTERM", error))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| failed("waiting for SIGINT", error))?;
    let (stop, mut stopped) = watch::channel(());
    let http = tokio::spawn(http::serve(listener, Arc::clone(&state), async move {
        let _ = stopped.changed().await;
    }));

    let mut ticks = interval(options.config.sensor.drain_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = options
        .duration
        .and_then(|duration| Instant::now().checked_add(duration));
    let mut health_due: BootTime = 0;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            _ = ticks.tick() => {}
        }
        for _ in 0..READINGS {
            let more = round(
                &mut sensor,
                &mut pipeline,
                &mut health_due,
                options.config.events.health_interval,
            );
            if !more {
                break;
            }
            // Whoever asks for /healthz is answered meanwhile.
            yield_now().await;
        }
        state.tick();
        state.ready();
    }

    state.not_ready("stopping");
    let keep = options.config.sensor.keep_on_stop && sensor.pinned();
    if !keep {
        // Nothing moves any more: what is in memory now is the end of the books.
        sensor.detach();
    }
    let mut never = BootTime::MAX;
    while round(&mut sensor, &mut pipeline, &mut never, Duration::MAX) {}
    pipeline.finish(clock::boot_now());
    let mut now = 0;
    round(&mut sensor, &mut pipeline, &mut now, Duration::MAX);
    let _ = stop.send(());
    match http.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::warn!("metrics server: {error}"),
        Err(error) => log::warn!("metrics server: {error}"),
    }
    pipeline.close();
    sensor.end(keep);
    Ok(())
}

/// One reading, and a health record when it is due. Whether there is more to read.
fn round(
    sensor: &mut Sensor,
    pipeline: &mut Pipeline,
    health_due: &mut BootTime,
    every: Duration,
) -> bool {
    let drain = sensor.poll();
    let lost = sensor.lost();
    pipeline.round(drain.at, &drain.observations, sensor.hooks(), total(&lost));
    if drain.at >= *health_due {
        *health_due = drain
            .at
            .saturating_add(u64::try_from(every.as_nanos()).unwrap_or(u64::MAX));
        sensor.check();
        tell_health(sensor, pipeline, &drain, lost);
    }
    drain.more
}

fn tell_health(sensor: &mut Sensor, pipeline: &mut Pipeline, drain: &Drain, lost: Vec<LostDetail>) {
    let interfaces = sensor.measure().cloned();
    let health = SensorHealth {
        hooks: sensor.hooks().to_vec(),
        interfaces,
        lost,
        events: sensor.events(),
        live_flows: sensor.live_flows(),
        counted: (drain.epoch, drain.counted),
    };
    pipeline.health(drain.at, drain.totals, health);
}
