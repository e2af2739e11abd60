//! TODO-outlet
