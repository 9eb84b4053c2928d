//! The benchmark is in `benches/decisions.rs`.
