//! What the use cases need from outside; `store`, `providers` and `cli` implement it.

mod provider;
mod store;
mod world;

pub use provider::*;
pub use store::*;
pub use world::*;
