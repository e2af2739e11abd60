//! TODO-sensor

pub mod fields;
