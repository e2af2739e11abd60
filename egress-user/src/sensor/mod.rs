//! TODO-sensor
