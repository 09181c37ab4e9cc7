//! Decision vectors.
