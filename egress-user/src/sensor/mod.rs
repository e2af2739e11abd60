//! TODO-sensor

pub mod bounded;
pub mod cgroups;
pub mod clock;
pub mod decode;
pub mod diag;
pub mod fields;
pub mod gaps;
pub mod path_table;
pub mod paths;
pub mod pid_dir;
pub mod privilege;
pub mod proc;
pub mod sockets;
