//! One lease that reboots an instance and one that observes, the records of both, and what is made of them.

mod commands;
mod incidents;
mod verdicts;
mod world;
