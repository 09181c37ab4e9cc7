//! One whole life, and everything an auditor asks of it.

mod check;
mod commands;
mod erase;
mod failed;
mod life;
mod search;
mod steps;
