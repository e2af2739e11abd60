//! From an exec to a [`Process`]: script, container, unit, user.

use std::collections::HashSet;
use std::sync::Arc;

use super::cgroup;
use super::files::Files;
use super::interpreter::{Given, given};
use super::script::{ScriptReader, absolute, sha256};
use super::users::Users;
use crate::model::{BootTime, Exec, FileRef, Origin, Process, ProcessKey, Script, Stdio, Text};

/// Texts kept to be shared; beyond that it begins anew, and only sharing suffers.
const TEXTS: usize = 4096;
/// Longer ones are seldom the same, bytes.
const TEXT_MAX: usize = 256;

/// Equal texts once.
#[derive(Debug, Default)]
pub(super) struct Texts(HashSet<Text>);

impl Texts {
    /// The same text, in the copy that others have.
    fn shared(&mut self, text: &Text) -> Text {
        if text.as_bytes().len() > TEXT_MAX {
            return text.clone();
        }
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        if self.0.len() >= TEXTS {
            self.0.clear();
        }
        self.0.insert(text.clone());
        text.clone()
    }
}

/// Makes images.
pub(super) struct Images {
    pub(super) scripts: Box<dyn ScriptReader>,
    pub(super) users: Users,
    /// One copy of what many processes have: paths, names, arguments.
    pub(super) texts: Texts,
}

impl Images {
    /// The image, and the inode number of the script file that was hashed. `before`: what the process, or who made
    /// it, was until now.
    pub(super) fn make(
        &mut self,
        exec: &Exec,
        key: ProcessKey,
        parent: Option<ProcessKey>,
        before: Option<&Process>,
        files: &Files,
        at: BootTime,
    ) -> (Process, Option<u64>) {
        let (script, script_ino) = self.script(exec, files);
        let mut cgroup_path = exec.cgroup_path.clone();
        let before = before.filter(|before| before.cgroup_id == exec.cgroup_id);
        if let Some(before) = before
            && cgroup_path.is_empty()
        {
            cgroup_path = before.cgroup_path.clone();
        }
        let (container, unit) = match (before, &exec.cgroup_v1) {
            // Nobody asked the other hierarchies: what they told before still holds.
            (Some(before), None) if before.cgroup_path == cgroup_path => {
                (before.container.clone(), before.unit.clone())
            }
            (_, paths) => {
                cgroup::place(cgroup_path.as_bytes(), paths.as_deref().unwrap_or_default())
            }
        };
        let identity = exec.identity;
        let texts = &mut self.texts;
        let executable = FileRef {
            path: texts.shared(&exec.executable.path),
            ..exec.executable.clone()
        };
        let process = Process {
            key,
            parent,
            executable,
            name: texts.shared(&exec.name),
            args: exec.args.iter().map(|text| texts.shared(text)).collect(),
            args_truncated: exec.truncated,
            script,
            cwd: texts.shared(&exec.cwd),
            identity,
            user_name: self.users.name(identity.uid, at),
            login_name: identity.loginuid.and_then(|uid| self.users.name(uid, at)),
            cgroup_id: exec.cgroup_id,
            cgroup_path,
            container,
            unit,
            netns: exec.netns,
            stdio: exec.stdio,
            exec_id: exec.exec_id,
            start_ns: key.start_ns,
            exec_ns: match exec.origin {
                Origin::Kernel => at,
                Origin::Proc => key.start_ns,
            },
            exit_ns: None,
            seeded: exec.origin == Origin::Proc,
        };
        (process, script_ino)
    }

    fn script(&mut self, exec: &Exec, files: &Files) -> (Option<Arc<Script>>, Option<u64>) {
        let asked = exec.filename.as_bytes();
        let by_kernel = exec.origin == Origin::Kernel
            && !asked.is_empty()
            && !exec.interpreter.is_empty()
            && exec.filename != exec.interpreter;
        let path = if by_kernel {
            absolute(&exec.cwd, asked)
        } else {
            let executable = if exec.executable.path.is_empty() {
                &exec.interpreter
            } else {
                &exec.executable.path
            };
            match given(executable.file_name(), &exec.args) {
                None => return (None, None),
                Some(Given::File(path)) => absolute(&exec.cwd, path),
                Some(Given::Code(text)) => {
                    let script = Script {
                        path: Text::default(),
                        file: None,
                        sha256: Some(sha256(text)),
                    };
                    return (Some(Arc::new(script)), None);
                }
                Some(Given::Module(name)) => {
                    let script = Script {
                        path: [b"-m ", name].concat().into(),
                        file: None,
                        sha256: None,
                    };
                    return (Some(Arc::new(script)), None);
                }
                Some(Given::Stdin) => {
                    let Stdio::File(id) = exec.stdio[0] else {
                        return (None, None);
                    };
                    let script = Script {
                        path: files.get(id, 0).map(|file| file.path).unwrap_or_default(),
                        file: Some(id),
                        sha256: None,
                    };
                    return (Some(Arc::new(script)), None);
                }
            }
        };
        let hashed = self.scripts.hash(&path, exec.mntns);
        let ino = hashed.as_ref().map(|hashed| hashed.ino);
        let script = Script {
            path,
            file: None,
            sha256: hashed.map(|hashed| hashed.sha256),
        };
        (Some(Arc::new(script)), ino)
    }
}
