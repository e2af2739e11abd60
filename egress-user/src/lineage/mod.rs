//! TODO-lineage
