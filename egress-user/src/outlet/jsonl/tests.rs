use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::Value;

use super::{HOLD, Jsonl, WRITE_AT, fitting};
use crate::model::{Attribution, Journal, Process, Record, Target, Told};
use crate::outlet::{JournalCell, Outlet as _, ecs, samples};

fn open(path: &Path) -> Jsonl {
    Jsonl::file(samples::host(), path, 64 << 10, 3).unwrap()
}

/// The lines of a file; panics on one that is not JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

fn json(record: &Record) -> Value {
    serde_json::to_value(ecs::Document::new(record, &samples::host())).unwrap()
}

#[test]
fn lines_have_the_fixed_names() {
    let flow = json(&samples::flow());
    for (pointer, want) in [
        ("/@timestamp", "2023-11-14T22:13:26.000000000Z"),
        ("/event/kind", "event"),
        ("/event/action", "flow"),
        ("/host/hostname", "web-1"),
        ("/process/entity_id", "4321-5000000000"),
        ("/process/executable", "/usr/bin/curl"),
        ("/process/name", r#"a\x1b[2J"\\\xff\xe2\x80\xae\x0a{}"#),
        ("/process/args/1", "-T"),
        ("/process/parent/entity_id", "4000-4000000000"),
        ("/user/id", "1000"),
        ("/user/name", "backup"),
        ("/user/effective/id", "0"),
        ("/source/ip", "198.51.100.2"),
        ("/destination/ip", "203.0.113.9"),
        ("/destination/domain", r"drop.example\xe2\x80\xae"),
        ("/egress/destination_name/source", "tls_sni"),
        ("/egress/destination_name/dns", r"other.example\x1b"),
        ("/network/transport", "tcp"),
        ("/network/type", "ipv4"),
        ("/network/direction", "egress"),
        ("/container/id", "0123abcd"),
        ("/orchestrator/resource/id", "2f3c"),
        ("/egress/attribution", "exact"),
        ("/egress/direction", "initiated"),
        ("/egress/scope", "public"),
        ("/egress/login_user", "alice"),
        ("/egress/unit", "cron.service"),
        ("/egress/job/script/path", "/opt/sync.sh"),
        ("/egress/job/scheduler/kind", "cron"),
    ] {
        assert_eq!(
            flow.pointer(pointer).and_then(Value::as_str),
            Some(want),
            "{pointer} in {flow:#}"
        );
    }
    assert_eq!(flow.pointer("/egress/wire_bytes"), Some(&2000.into()));
    let alert = json(&samples::alert());
    for (pointer, want) in [
        ("/event/kind", "alert"),
        ("/rule/id", "automated_exfiltration"),
        ("/threat/technique/id/0", "T1020"),
        (
            "/threat/technique/name/2",
            "Exfiltration Over Alternative Protocol",
        ),
        ("/egress/evidence/0/kind", "cadence"),
        ("/egress/files/0/path", "/srv/customers.db"),
        ("/egress/alert/last", "2023-11-14T22:13:28.000000000Z"),
        ("/egress/lineage/2/name", "/srv/customers.db"),
    ] {
        assert_eq!(
            alert.pointer(pointer).and_then(Value::as_str),
            Some(want),
            "{pointer} in {alert:#}"
        );
    }
    assert_eq!(alert.pointer("/event/risk_score"), Some(&87.into()));
    assert_eq!(
        alert.pointer("/egress/evidence/1/value"),
        None,
        "JSON has no infinity"
    );
}

#[test]
fn names_of_the_model_are_its_serialization() {
    let Record::Alert(alert) = samples::alert() else {
        panic!("not an alert")
    };
    let line = json(&samples::alert());
    assert_eq!(
        line["rule"]["id"],
        serde_json::to_value(alert.rule).unwrap()
    );
    assert_eq!(
        line["egress"]["evidence"][0]["kind"],
        serde_json::to_value(alert.signals[0].kind).unwrap()
    );
    assert_eq!(
        line["egress"]["scope"],
        serde_json::to_value(&alert.destination.scope).unwrap()
    );
    assert_eq!(
        line["egress"]["coverage"],
        serde_json::to_value(alert.coverage).unwrap()
    );
}

#[test]
fn a_health_line_balances() {
    let line = json(&samples::health());
    for layer in ["wire", "app"] {
        let ledger = &line["egress"]["ledger"][layer];
        let reasons: u64 = ledger["unattributed"]
            .as_object()
            .unwrap()
            .values()
            .map(|n| n.as_u64().unwrap())
            .sum();
        assert_eq!(
            ledger["attributed"].as_u64().unwrap() + reasons,
            ledger["total"].as_u64().unwrap()
        );
    }
}

#[test]
fn the_schema_is_checked_in_and_every_kind_of_record_keeps_to_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.schema.json");
    let schema = ecs::schema();
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    if std::env::var_os("EGRESS_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "docs/events.schema.json is not what the types say: run the test with EGRESS_BLESS=1, and review the difference"
    );
    let validator = jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    for record in samples::all() {
        let line = json(&record);
        let errors: Vec<_> = validator
            .iter_errors(&line)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:?} in {line:#}");
    }
    let mut wrong = json(&samples::flow());
    wrong["egress"]["no_such_field"] = 1.into();
    assert!(
        !validator.is_valid(&wrong),
        "the schema refuses what it does not know"
    );
}

#[test]
fn a_file_is_appended_to_with_careful_permissions_and_a_torn_line_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let mut outlet = open(&path);
    outlet.record(&samples::flow()).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().len(),
        0,
        "held until the flush"
    );
    outlet.flush().unwrap();
    drop(outlet);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640,
        0
    );
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{}", &whole[..40])).unwrap();
    let mut outlet = open(&path);
    outlet.record(&samples::alert()).unwrap();
    outlet.flush().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let kinds: Vec<bool> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).is_ok())
        .collect();
    assert_eq!(kinds, [true, false, true]);
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (link, fifo) = (dir.path().join("link"), dir.path().join("fifo"));
    symlink("/dev/null", &link).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    for (path, why) in [
        (link.as_path(), "symbolic link"),
        (&fifo, "standard output"),
        (dir.path(), "cannot write"),
    ] {
        let error = Jsonl::file(samples::host(), path, 64 << 10, 3)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(why) && error.contains(&*path.to_string_lossy()),
            "{error}"
        );
    }
    let mut null = open(Path::new("/dev/null"));
    null.record(&samples::flow()).unwrap();
    null.flush().unwrap();
}

#[test]
fn rotation_splits_no_line_and_loses_none_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let mut outlet = open(&path);
    let line = serde_json::to_string(&json(&samples::flow()))
        .unwrap()
        .len() as u64
        + 1;
    // A little over two files: PATH.2, PATH.1 and PATH.
    let count = 2 * ((64 << 10) / line) + 10;
    for n in 0..count {
        let mut flow = samples::flow_of("/usr/bin/curl", 2000, Attribution::Exact);
        flow.delta.id.0 = n;
        outlet.record(&Record::Flow(Arc::new(flow))).unwrap();
        if n % 7 == 0 {
            outlet.flush().unwrap();
        }
    }
    outlet.flush().unwrap();
    let mut ids = Vec::new();
    for name in ["events.2", "events.1", "events"] {
        let path = dir.path().join(name);
        assert!(fs::metadata(&path).unwrap().len() <= 64 << 10, "{name}");
        ids.extend(
            lines(&path)
                .iter()
                .map(|line| line["egress"]["flow_id"].as_u64().unwrap()),
        );
    }
    assert_eq!(ids, (0..count).collect::<Vec<_>>());
    for _ in 0..5 * count {
        outlet.record(&samples::flow()).unwrap();
    }
    outlet.flush().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["events", "events.1", "events.2", "events.3"],
        "no more than are kept"
    );
}

#[test]
fn a_line_larger_than_the_limit_is_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let mut outlet = open(&path);
    let process = Process {
        args: vec!["x".repeat(70 << 10).as_str().into()],
        ..Arc::unwrap_or_clone(samples::process())
    };
    for _ in 0..2 {
        let exec = Record::Exec {
            at: 0,
            process: Arc::new(process.clone()),
            parent: None,
            job: samples::job(),
        };
        outlet.record(&exec).unwrap();
    }
    outlet.flush().unwrap();
    assert_eq!(
        (
            lines(&path).len(),
            lines(&dir.path().join("events.1")).len()
        ),
        (1, 1)
    );
}

#[test]
fn a_file_moved_by_others_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("events"), dir.path().join("events-old"));
    let mut outlet = open(&path);
    outlet.record(&samples::flow()).unwrap();
    outlet.flush().unwrap();
    fs::rename(&path, &moved).unwrap();
    outlet.record(&samples::flow()).unwrap();
    outlet.flush().unwrap();
    assert_eq!((lines(&path).len(), lines(&moved).len()), (1, 1));
}

/// `/dev/full` is a disk without room (Linux `drivers/char/mem.c`).
#[test]
fn a_full_disk_is_an_error_that_keeps_lines_until_there_are_too_many() {
    let mut outlet = open(Path::new("/dev/full"));
    outlet.record(&samples::flow()).unwrap();
    assert_eq!(
        outlet.flush().unwrap_err().kind(),
        std::io::ErrorKind::StorageFull
    );
    assert_eq!(
        outlet.held.split(|byte| *byte == b'\n').count() - 1,
        1,
        "kept"
    );
    let mut taken = 1;
    while outlet.record(&samples::flow()).is_ok() {
        taken += 1;
    }
    assert_eq!(outlet.held.split(|byte| *byte == b'\n').count() - 1, taken);
    assert!(outlet.held.len() > WRITE_AT && outlet.held.len() <= HOLD);
    outlet.held.clear();
}

proptest! {
    #[test]
    fn what_fits_are_whole_lines(lines in prop::collection::vec("[a-z]{0,9}", 1..9), room in 0_u64..60, torn: bool) {
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let take = fitting(text.as_bytes(), torn, room);
        prop_assert!(take as u64 <= room || torn && take == lines[0].len() + 1);
        prop_assert!(take == 0 || text.as_bytes()[take - 1] == b'\n');
        prop_assert!(!torn || take > 0);
    }

    #[test]
    fn hostile_bytes_make_one_line_that_keeps_to_the_schema(bytes in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,20}") {
        let process = Process { name: bytes.clone().into(), args: vec![bytes.clone().into()], unit: Some(text), cwd: bytes.into(),
            ..Arc::unwrap_or_clone(samples::process()) };
        let record = Record::Exec { at: u64::MAX, process: Arc::new(process), parent: None, job: samples::job() };
        let line = serde_json::to_string(&ecs::Document::new(&record, &samples::host())).unwrap();
        prop_assert!(!line.chars().any(char::is_control));
        prop_assert!(jsonschema::is_valid(&ecs::schema(), &serde_json::from_str(&line).unwrap()));
    }
}

/// Notes what is announced, and holds what is told to it.
#[derive(Default)]
struct Notes {
    announced: Mutex<Vec<u64>>,
    told: Mutex<u64>,
    most: Mutex<usize>,
}

impl Journal for Notes {
    fn intend(&self, target: Target<'_>, lines: &mut dyn Iterator<Item = (u64, &Told)>) {
        let text = fs::read(target.path).unwrap();
        let from = usize::try_from(target.from).unwrap();
        assert!(from == 0 || text[from - 1] == b'\n', "begins within a line");
        let lines: Vec<_> = lines.collect();
        let counters = lines
            .iter()
            .filter(|(_, told)| matches!(told, Told::Counters(..)))
            .count();
        assert!(counters <= 1, "the journal holds one set of counters");
        let mut most = self.most.lock().unwrap();
        *most = (*most).max(lines.len());
        *self.announced.lock().unwrap() = lines.into_iter().map(|(end, _)| end).collect();
    }

    fn told(&self, _: &Told) {
        *self.told.lock().unwrap() += 1;
    }

    fn done(&self) {}
}

#[test]
fn each_record_is_announced_with_where_its_line_will_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let notes = Arc::new(Notes::default());
    let cell = JournalCell::default();
    cell.set(notes.clone());
    let mut outlet = open(&path).noting(cell);
    let mut written = 0;
    for round in 0_u64..40 {
        for _ in 0..round % 7 {
            outlet.record(&samples::flow()).unwrap();
        }
        outlet.record(&samples::exec()).unwrap();
        outlet.record(&samples::health()).unwrap();
        outlet.record(&samples::health()).unwrap();
        written += round % 7 + 2;
        let before = *notes.told.lock().unwrap();
        outlet.flush().unwrap();
        assert_eq!(*notes.told.lock().unwrap(), written, "all is told");
        assert!(written - before >= 2);
        // The last write, whether the file was rotated before it or not.
        let text = fs::read(&path).unwrap();
        let announced = notes.announced.lock().unwrap();
        assert_eq!(announced.last(), Some(&(text.len() as u64)));
        for end in announced.iter() {
            assert_eq!(text[usize::try_from(*end).unwrap() - 1], b'\n');
        }
    }
    assert!(
        dir.path().join("events.1").exists(),
        "it was rotated meanwhile"
    );
}

#[test]
fn the_journal_is_given_no_more_than_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let notes = Arc::new(Notes::default());
    let cell = JournalCell::default();
    cell.set(notes.clone());
    let mut outlet = Jsonl::file(samples::host(), &path, 1 << 30, 3)
        .unwrap()
        .noting(cell);
    // Lines that cannot be written wait, and then go out at once.
    outlet.trouble = Some(std::io::ErrorKind::StorageFull.into());
    for _ in 0..1000 {
        outlet.record(&samples::flow()).unwrap();
    }
    assert!(outlet.flush().is_err());
    assert_eq!(*notes.told.lock().unwrap(), 1000);
    assert_eq!(*notes.most.lock().unwrap(), egress_common::state::INTENTS);
    assert_eq!(lines(&path).len(), 1000);
}
