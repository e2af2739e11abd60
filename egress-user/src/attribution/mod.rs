//! TODO-attribution
