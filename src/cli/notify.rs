//! Tells people through a webhook or a command: kind, id and link, nothing else. Never blocks the broker, never
//! fails it; what cannot be told in time is dropped, logged and counted.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::broker::metrics::{Metrics, NoticeFate};
use crate::broker::ports::{Notice, Notifier};

/// Notices that may wait.
const QUEUE: usize = 256;
/// For one notice to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// POST of the notice as JSON.
    Webhook {
        /// Where to.
        url: String,
    },
    /// A program with arguments (no shell), given the notice as JSON on standard input.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// A notifier with a bounded queue in front of its receiver.
pub struct QueuedNotifier {
    queue: mpsc::Sender<Notice>,
    metrics: Arc<Metrics>,
}

impl QueuedNotifier {
    /// Begins telling `receiver`, one notice after the other, until the notifier is dropped.
    /// Call it inside the runtime.
    pub fn start(receiver: Receiver, metrics: Arc<Metrics>) -> Result<Self, reqwest::Error> {
        // SECURITY: a redirect would carry our notices to a place that nobody configured.
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let (queue, mut waiting) = mpsc::channel::<Notice>(QUEUE);
        let counted = metrics.clone();
        tokio::spawn(async move {
            while let Some(notice) = waiting.recv().await {
                let told = tokio::time::timeout(PATIENCE, tell(&receiver, &client, &notice)).await;
                let why = match told {
                    Ok(Ok(())) => {
                        counted.notice(NoticeFate::Sent);
                        continue;
                    }
                    Ok(Err(why)) => why,
                    Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
                };
                counted.notice(NoticeFate::Failed);
                tracing::warn!(notice.kind, notice.id, why, "people could not be told");
            }
        });
        Ok(Self { queue, metrics })
    }
}

impl Notifier for QueuedNotifier {
    fn notify(&self, notice: Notice) {
        if let Err(error) = self.queue.try_send(notice) {
            let notice = match error {
                mpsc::error::TrySendError::Full(notice) | mpsc::error::TrySendError::Closed(notice) => notice,
            };
            self.metrics.notice(NoticeFate::Dropped);
            tracing::warn!(notice.kind, notice.id, "a notice was dropped: its queue is full");
        }
    }
}

/// Tells nobody; for a configuration without `on_event`.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Notifier for Silent {
    fn notify(&self, _: Notice) {}
}

async fn tell(receiver: &Receiver, client: &reqwest::Client, notice: &Notice) -> Result<(), String> {
    match receiver {
        Receiver::Webhook { url } => {
            // The error's own text names the URL, which may hold a token.
            let sent = client.post(url).json(notice).send().await.map_err(|e| e.without_url().to_string())?;
            match sent.status() {
                status if status.is_success() => Ok(()),
                status => Err(format!("the webhook answered {status}")),
            }
        }
        Receiver::Command { argv } => run(argv, notice).await,
    }
}

async fn run(argv: &[String], notice: &Notice) -> Result<(), String> {
    let (program, arguments) = argv.split_first().ok_or("no command is configured")?;
    let json = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A command that does not read its input may still succeed.
        let _ = input.write_all(&json).await;
    }
    match child.wait().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{program}` ended with {status}")),
        Err(error) => Err(format!("`{program}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(id: &str) -> Notice {
        Notice { kind: "approval_needed", id: id.into(), link: "http://127.0.0.1/g".into() }
    }

    async fn shows(metrics: &Metrics, line: &str) {
        for _ in 0..200 {
            if metrics.render().unwrap().contains(line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{line} is missing in\n{}", metrics.render().unwrap());
    }

    #[tokio::test]
    async fn a_command_is_given_the_notice_on_its_input() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notice.json");
        let metrics = Arc::new(Metrics::new());
        let script = format!("cat > {}", file.display());
        let argv = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        let notifier = QueuedNotifier::start(Receiver::Command { argv }, metrics.clone()).unwrap();
        notifier.notify(notice("01G"));
        shows(&metrics, r#"fate="sent"} 1"#).await;
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(
            told,
            serde_json::json!({"kind": "approval_needed", "id": "01G", "link": "http://127.0.0.1/g"})
        );
    }

    #[tokio::test]
    async fn a_failing_receiver_is_counted_and_fails_nobody() {
        let metrics = Arc::new(Metrics::new());
        let argv = vec!["/bin/false".to_owned()];
        let notifier = QueuedNotifier::start(Receiver::Command { argv }, metrics.clone()).unwrap();
        notifier.notify(notice("01G"));
        shows(&metrics, r#"fate="failed"} 1"#).await;
        // Nobody listens on port 9 of loopback.
        let url = "http://127.0.0.1:9/".to_owned();
        let notifier = QueuedNotifier::start(Receiver::Webhook { url }, metrics.clone()).unwrap();
        notifier.notify(notice("01H"));
        shows(&metrics, r#"fate="failed"} 2"#).await;
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_does_not_block() {
        let metrics = Arc::new(Metrics::new());
        let argv = ["/bin/sleep", "5"].map(str::to_owned).to_vec();
        let notifier = QueuedNotifier::start(Receiver::Command { argv }, metrics.clone()).unwrap();
        for _ in 0..QUEUE + 2 {
            notifier.notify(notice("01G"));
        }
        assert!(metrics.render().unwrap().contains(r#"fate="dropped"} "#));
    }
}
