//! TODO-detect
