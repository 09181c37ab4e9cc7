//! `exec --phase observe`: the command runs with a read-only credential, renewed while it runs.

use std::sync::Arc;

use super::child::{Program, exit_code};
use super::environment::child_environment;
use super::held::Observing;
use super::stop::Stop;
use super::surface::{AwsEndpoint, Surface};
use super::{Desk, say};
use crate::domain::id::RunId;
use crate::domain::principal::ActionType;

/// Runs the program in the observe phase of `run`; closing the run ends its credential.
pub async fn observe(
    desk: &mut Desk,
    run: RunId,
    set: &ActionType,
    program: &Program,
    endpoints: &[AwsEndpoint],
) -> Result<u8, Stop> {
    let source = Observing::enter(desk.client.clone(), desk.clock.clone(), run, set.as_str()).await?;
    let first = source.now().await;
    say(format!("observing with `{set}`: read-only, renewed while the command runs"));
    let issuer = desk.client.issuer().to_owned();
    let surface = Surface::open(Arc::new(source), &first, desk.clock.clone(), &issuer, endpoints).await?;
    let environment = child_environment(std::env::vars_os(), surface.variables());
    let status = program.run(environment, &mut desk.signals, std::future::pending(), || {}).await;
    surface.endpoint().end("the command is over, and the credential with it");
    surface.close().await?;
    Ok(exit_code(status?))
}
