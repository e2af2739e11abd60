//! The user side of `egress`: kernel records in, attributed transfers and alerts out.
//!
//! Data flows one way, and each room says in its first lines what comes in and what goes out:
//! [`sensor`] → [`lineage`] → [`attribution`] → [`detect`] → [`outlet`]; [`model`] is their vocabulary,
//! [`runtime`] wires them, [`cli`] starts it.

#![deny(unsafe_code)]

pub mod attribution;
pub mod cli;
pub mod config;
pub mod detect;
pub mod lineage;
pub mod model;
pub mod outlet;
pub mod runtime;
pub mod sensor;
