//! From a record to its line.
//!
//! In: [`Record`] and [`Host`]. Out: [`ecs::Document`], borrowing from both.

use std::net::SocketAddr;

use super::ecs::{self, Document, Egress, Time};
use super::host::Host;
use super::shown::{Device, EntityId, Escaped, Harmless, Mode, Shown, TransportName};
use super::summary;
use super::words::{attribution, direction, name_source, scope};
use crate::model::{
    BootTime, Destination, Direction, FileAccess, FileRef, Flow, Job, NameSource, Named, Process,
    ProcessKey, Reason, Record, Text, Transport,
};

mod alert;
mod blind;
mod health;
mod interfaces;

impl<'a> Document<'a> {
    /// The line of a record.
    #[must_use]
    pub fn new(record: &'a Record, host: &'a Host) -> Self {
        match record {
            Record::Flow(flow) => Self::flow(flow, host),
            Record::Exec {
                at,
                process,
                parent,
                job,
            } => {
                let mut document = Self::of(host, *at, "exec", &["process"], &["start"]);
                document.set_process(process, host);
                if let (Some(parent), Some(fields)) = (parent, &mut document.process) {
                    fields.parent = Some(ecs::Parent {
                        executable: present(&parent.executable.path),
                        name: present(&parent.name),
                        args: parent.args.iter().map(Shown).collect(),
                        ..parent_of(parent.key)
                    });
                }
                document.egress.netns = Some(process.netns).filter(|netns| *netns != 0);
                document.egress.cgroup = present(&process.cgroup_path);
                document.egress.job = Some(job_of(job));
                document.egress.truncated = process.args_truncated.then_some(true);
                document
            }
            Record::File {
                at,
                access,
                labels,
                process,
            } => {
                let mut document = Self::file(*at, access, host);
                if let Some(process) = process {
                    document.set_process(process, host);
                }
                document.egress.labels = labels.iter().map(|label| Shown(Escaped(label))).collect();
                document
            }
            Record::Blind {
                at,
                using,
                process,
                job,
            } => {
                let mut document = Self::blind_spot(*at, using, host);
                if let Some(process) = process {
                    document.set_process(process, host);
                }
                document.egress.job = job.as_deref().map(job_of);
                document
            }
            Record::Health(health) => Self::health(health, host),
            Record::Alert(alert) => Self::alert(alert, host),
            Record::Gap(gap) => Self::gap(gap, host),
            Record::HostAlert(alert) => Self::host_alert(alert, host),
        }
    }

    /// What every record has.
    fn of(
        host: &'a Host,
        at: BootTime,
        action: &'static str,
        category: &[&'static str],
        types: &[&'static str],
    ) -> Self {
        Self {
            timestamp: time(host, at),
            ecs: ecs::Ecs {
                version: ecs::ECS_VERSION,
            },
            agent: ecs::Agent {
                kind: "egress",
                version: env!("CARGO_PKG_VERSION"),
            },
            event: ecs::Event {
                kind: if action == "alert" { "alert" } else { "event" },
                action,
                category: category.to_vec(),
                types: types.to_vec(),
                dataset: match action {
                    "flow" => "egress.flow",
                    "exec" => "egress.exec",
                    "file" => "egress.file",
                    "blind_spot" => "egress.blind_spot",
                    "alert" => "egress.alert",
                    "gap" => "egress.gap",
                    _ => "egress.health",
                },
                id: None,
                risk_score: None,
                start: None,
                end: None,
            },
            message: None,
            host: ecs::HostFields {
                hostname: Shown(Escaped(&host.hostname)),
                boot: ecs::Boot { id: &host.boot_id },
            },
            process: None,
            user: None,
            group: None,
            source: None,
            destination: None,
            network: None,
            container: None,
            orchestrator: None,
            file: None,
            rule: None,
            threat: None,
            egress: Egress::default(),
        }
    }

    fn flow(flow: &'a Flow, host: &'a Host) -> Self {
        let delta = &flow.delta;
        let types: &[_] = if delta.closed.is_some() {
            &["connection", "end"]
        } else {
            &["connection"]
        };
        let mut document = Self::of(host, delta.last, "flow", &["network"], types);
        document.event.start = Some(time(host, delta.first));
        document.event.end = delta.closed.map(|at| time(host, at));
        match &flow.process {
            Some(process) => document.set_process(process, host),
            None => document.set_owner(flow),
        }
        document.source = delta.local.map(|local| endpoint(local, delta.transport));
        if let Some(destination) = &flow.destination {
            document.set_destination(destination);
        } else {
            document.destination = delta.remote.map(|remote| endpoint(remote, delta.transport));
            document.egress.scope = flow.scope().map(|far| name(scope(far)));
        }
        let addressed = document.destination.as_ref().or(document.source.as_ref());
        document.network = Some(ecs::Network {
            transport: transport(delta.transport),
            kind: addressed.map(|end| if end.ip.is_ipv4() { "ipv4" } else { "ipv6" }),
            direction: match delta.direction {
                Direction::Initiated => "egress",
                Direction::Accepted | Direction::Listening => "ingress",
                Direction::Unknown => "unknown",
            },
        });
        let (attribution, reason) = attribution(flow.attribution);
        let egress = &mut document.egress;
        egress.flow_id = Some(delta.id.0);
        egress.app_bytes = Some(delta.app_bytes);
        egress.app_calls = Some(delta.app_calls);
        egress.wire_bytes = Some(delta.wire_bytes);
        egress.wire_packets = Some(delta.wire_packets);
        egress.rx_bytes = Some(delta.rx_bytes);
        egress.direction = Some(direction(delta.direction));
        egress.closed = Some(delta.closed.is_some());
        egress.attribution = Some(attribution);
        egress.unattributed_reason = reason.map(Reason::name);
        egress.netns = Some(delta.netns).filter(|netns| *netns != 0);
        egress.job = flow.job.as_deref().map(job_of);
        document
    }

    fn file(at: BootTime, access: &'a FileAccess, host: &'a Host) -> Self {
        let how = access.access;
        let mut types = Vec::with_capacity(3);
        types.extend(how.create.then_some("creation"));
        types.extend(how.write.then_some("change"));
        types.extend((how.read || types.is_empty()).then_some("access"));
        let mut document = Self::of(host, at, "file", &["file"], &types);
        document.process = Some(bare(access.process));
        document.file = Some(file_of(&access.file));
        document.egress.access = Some(ecs::Access {
            read: how.read,
            write: how.write,
            create: how.create,
        });
        document.egress.truncated = access.truncated.then_some(true);
        document
    }

    /// Everything that a process says of who acts, and for whom.
    fn set_process(&mut self, process: &'a Process, host: &'a Host) {
        let identity = &process.identity;
        self.process = Some(ecs::Process {
            executable: present(&process.executable.path),
            name: present(&process.name),
            args: process.args.iter().map(Shown).collect(),
            args_count: Some(process.args.len()),
            start: Some(time(host, process.start_ns)),
            working_directory: present(&process.cwd),
            interactive: Some(identity.tty.is_some()),
            parent: process.parent.map(parent_of),
            ..bare(process.key)
        });
        self.user = Some(ecs::User {
            id: Shown(identity.uid),
            name: process.user_name.as_deref().map(name),
            effective: (identity.euid != identity.uid).then_some(ecs::Effective {
                id: Shown(identity.euid),
            }),
        });
        self.group = Some(ecs::Group {
            id: Shown(identity.gid),
        });
        if let Some(container) = &process.container {
            self.container = Some(ecs::Container {
                id: known(&container.id),
                runtime: Some(container.runtime.as_str())
                    .filter(|name| !name.is_empty())
                    .map(name),
            });
            self.orchestrator = container.pod_uid.as_deref().map(|uid| ecs::Orchestrator {
                kind: "kubernetes",
                resource: ecs::Resource {
                    kind: "pod",
                    id: known(uid),
                },
            });
        }
        self.egress.login_user = process.login_name.as_deref().map(name);
        self.egress.login_uid = identity.loginuid;
        self.egress.session_id = identity.session_id;
        self.egress.unit = process.unit.as_deref().map(known);
    }

    /// What the kernel side itself knew of a flow's owner, when nobody else knows more.
    fn set_owner(&mut self, flow: &'a Flow) {
        let Some(owner) = flow.delta.owner else {
            return;
        };
        self.process = Some(ecs::Process {
            name: present(&flow.delta.owner_name),
            ..bare(owner)
        });
        self.user = flow.delta.owner_uid.map(|uid| ecs::User {
            id: Shown(uid),
            name: None,
            effective: None,
        });
    }

    fn set_destination(&mut self, destination: &'a Destination) {
        self.destination = Some(ecs::Endpoint {
            domain: destination.domain.as_deref().map(name),
            ..endpoint(
                SocketAddr::new(destination.ip, destination.port),
                destination.transport,
            )
        });
        self.egress.scope = Some(name(scope(&destination.scope)));
        self.egress.destination_name = destination.name.as_ref().map(destination_name);
    }
}

fn time(host: &Host, at: BootTime) -> Time {
    Shown(host.clock.wall(at))
}

fn name(name: &str) -> ecs::Name<'_> {
    Shown(Escaped(name))
}

fn known(name: &str) -> ecs::Known<'_> {
    Shown(Harmless(name))
}

fn present(text: &Text) -> Option<ecs::Bytes<'_>> {
    (!text.is_empty()).then_some(Shown(text))
}

fn bare<'a>(key: ProcessKey) -> ecs::Process<'a> {
    ecs::Process {
        pid: key.tgid,
        entity_id: Shown(EntityId(key)),
        executable: None,
        name: None,
        args: Vec::new(),
        args_count: None,
        start: None,
        working_directory: None,
        interactive: None,
        parent: None,
    }
}

fn parent_of<'a>(key: ProcessKey) -> ecs::Parent<'a> {
    ecs::Parent {
        pid: key.tgid,
        entity_id: Shown(EntityId(key)),
        executable: None,
        name: None,
        args: Vec::new(),
    }
}

fn endpoint<'a>(address: SocketAddr, transport: Transport) -> ecs::Endpoint<'a> {
    let has_ports = matches!(transport.0, 6 | 17 | 33 | 132 | 136);
    ecs::Endpoint {
        ip: address.ip().to_canonical(),
        port: (has_ports || address.port() != 0).then_some(address.port()),
        domain: None,
    }
}

fn destination_name(named: &Named) -> ecs::DestinationName<'_> {
    let from_dns = matches!(named.source, NameSource::Dns | NameSource::HttpsHint);
    ecs::DestinationName {
        source: name_source(named.source),
        shared: from_dns.then_some(named.shared),
        dns: named.dns.as_deref().map(name),
    }
}

fn file_of(file: &FileRef) -> ecs::File<'_> {
    ecs::File {
        path: present(&file.path),
        inode: Shown(file.id.ino),
        device: Shown(Device(file.id.dev)),
        size: file.size,
        mode: Shown(Mode(file.mode)),
    }
}

fn job_of(job: &Job) -> ecs::Job<'_> {
    let (kind, scheduler_name) = summary::scheduler(&job.scheduler);
    ecs::Job {
        id: &job.id.0,
        executable: Shown(&job.executable),
        script: job.script.as_deref().map(|script| ecs::Script {
            path: present(&script.path),
            sha256: script.sha256.as_deref(),
        }),
        scheduler: ecs::Scheduler {
            kind,
            name: scheduler_name.map(known),
        },
        uid: job.uid,
        interactive: job.interactive,
    }
}

fn transport(transport: Transport) -> Shown<TransportName> {
    Shown(TransportName(transport))
}
