//! `phasebroker dev`: keeps a broker like the demo's running, and prints what to do with it.

use std::path::PathBuf;
use std::process::ExitCode;

use super::demo::Stage;
use super::demo::world::PASSPHRASE;
use super::exit::Exit;
use super::serve::Signals;
use super::terminal::{Output, say};

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where everything is kept: created, or taken up again at the same addresses with the same keys.
    #[arg(long, value_name = "DIR", default_value = "phasebroker-dev")]
    pub dir: PathBuf,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    super::logs::start(super::logs::LogFormat::Text, &"info".parse()?);
    let signals = Signals::watch()?;
    let (stage, running) = Stage::resume(&args.dir).await?;
    let (url, dir) = (&stage.world.issuer, args.dir.display());
    say(&format!(
        "A broker for trying things out listens on {url}; its files are in {dir}.\n\
         Loopback, environment `demo` and provider `jwt` only. Every key's passphrase is `{PASSPHRASE}`.\n\n\
         1. As the agent `fixer`, propose, wait, and run a command with the credential:\n\
         \x20  phasebroker exec --broker {url} --agent fixer --key {dir}/keys/fixer.pem \\\n\
         \x20      --environment demo --observe-set service-status --action restart-service \\\n\
         \x20      --param service=checkout --param reason_code=memory-leak -- env\n\
         2. In another terminal, as bob, who is on call:\n\
         \x20  phasebroker approvals list --broker {url} --person bob --key {dir}/keys/bob\n\
         \x20  phasebroker approvals sign GRANT --broker {url} --person bob --key {dir}/keys/bob\n\
         3. As olga, who operates and audits:\n\
         \x20  phasebroker leases list --broker {url} --person olga --key {dir}/keys/olga\n\
         \x20  phasebroker stop --everything --reason drill --broker {url} --person olga --key {dir}/keys/olga\n\n\
         More to try:\n\
         4. Without a further signature, inside a playbook. Olga proposes it, bob signs it, and 1. needs nobody:\n\
         \x20  phasebroker playbooks propose --file {dir}/playbook.toml --broker {url} --person olga --key {dir}/keys/olga\n\
         \x20  phasebroker playbooks sign GRANT --broker {url} --person bob --key {dir}/keys/bob\n\
         \x20  phasebroker reviews list --broker {url} --person erin --key {dir}/keys/erin\n\
         \x20  phasebroker reviews accept REVIEW --note \"It was degraded\" --broker {url} --person erin --key {dir}/keys/erin\n\
         5. Only suggested: propose `--action scale-service --param service=checkout --param replicas=3`, then\n\
         \x20  phasebroker approvals list --suggested --broker {url} --person bob --key {dir}/keys/bob\n\
         6. Past the policy: olga asks in person, bob and dana sign within minutes, and it is reviewed:\n\
         \x20  phasebroker requester-token --broker {url} --person olga --key {dir}/keys/olga > {dir}/asked\n\
         \x20  and within a minute 5. with `--break-glass --requester-token-file {dir}/asked`\n\
         7. Frozen until bob and dana sign that it may go on:\n\
         \x20  phasebroker freeze --agent fixer --reason drill --broker {url} --person olga --key {dir}/keys/olga\n\
         \x20  phasebroker unfreeze --agent fixer --reason done --broker {url} --person olga --key {dir}/keys/olga\n\n\
         Control-C ends it.\n"
    ))?;
    running.until_signalled(signals).await?;
    Ok(Exit::Done.into())
}
