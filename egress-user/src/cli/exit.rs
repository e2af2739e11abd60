//! Exit codes. `egress --help` documents them; clap uses the same 2 for wrong arguments.

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::model::Verdict;
use crate::runtime::RunError;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for `doctor`: everything works here.
    Ok = 0,
    /// It began, and failed; for `doctor`: works, but not all of it.
    Failed = 1,
    /// It could not begin: arguments, configuration, privileges, kernel, a taken port.
    CannotRun = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

impl From<&RunError> for Exit {
    fn from(error: &RunError) -> Self {
        if error.cannot_run() {
            Self::CannotRun
        } else {
            Self::Failed
        }
    }
}

impl From<&ConfigError> for Exit {
    fn from(_: &ConfigError) -> Self {
        Self::CannotRun
    }
}

impl From<&Verdict> for Exit {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Ok => Self::Ok,
            Verdict::Degraded(_) => Self::Failed,
            Verdict::CannotRun(_) => Self::CannotRun,
        }
    }
}
