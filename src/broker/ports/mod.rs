//! What the use cases need from outside; `store`, `providers` and `cli` implement it.

mod canary;
mod changes;
mod filters;
mod keys;
mod log;
mod logged;
mod look;
mod opening;
mod provider;
mod records;
mod search;
mod sink;
mod store;
mod witness;
mod world;

pub use canary::*;
pub use changes::*;
pub use filters::*;
pub use keys::*;
pub use log::*;
pub use logged::*;
pub use look::*;
pub use opening::*;
pub use provider::*;
pub use records::*;
pub use search::*;
pub use sink::*;
pub use store::*;
pub use witness::*;
pub use world::*;
