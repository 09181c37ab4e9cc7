//! Copies of the log: at least once, in order, resumed by index, and never in the way of issuance or of one another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod process;
mod receiver;
mod world;

use std::path::Path;
use std::sync::{Arc, Mutex};

use phasebroker::broker::exporting::Export;
use phasebroker::broker::exporting::polls::{PollAsked, PollReceiver};
use phasebroker::broker::ports::{Delivered, Log, LoggedEvent, Pruned, Sink, SinkError, Store};
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::principal::Actor;
use phasebroker::exports::file::LineFile;
use phasebroker::exports::syslog::{Address, Syslog};
use phasebroker::exports::webhook::{Body, Webhook};
use phasebroker::exports::{Post, SecretHeader};
use process::caller::Work;
use process::place::Place;
use receiver::{Receiver, until};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket, UnixDatagram};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use world::{World, key};

/// A sink that runs until it is ended.
struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(world: &World, sink: impl Sink + 'static, from_start: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let export = Export { sink: Arc::new(sink), from_start };
        Self { stop, task: tokio::spawn(world.broker.clone().export(export, stopped)) }
    }

    /// As a shutdown does.
    async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

fn webhook(receiver: &Receiver, body: Body) -> Webhook {
    Webhook::new("hook".into(), Post::new(receiver.url.clone(), None).unwrap(), body)
}

/// Opens a run: one event, by an agent.
async fn run(world: &World) {
    let body = json!({"environment": "demo", "purpose": "checkout is slow"});
    world.by_agent(&key(), "POST", "/v1/runs", Some(&body)).await.good();
}

async fn size(world: &World) -> u64 {
    world.store.head().await.unwrap().size
}

fn indices(objects: &[Value]) -> Vec<u64> {
    objects.iter().map(|object| object["unmapped"]["index"].as_u64().unwrap()).collect()
}

async fn metrics(world: &World) -> String {
    world.call("GET", "/metrics", &[], None).await.text
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_sink_that_was_down_gets_everything_in_order_and_issuance_went_on_meanwhile() {
    let world = World::start().await;
    let receiver = Receiver::start(500).await;
    let sink = Running::start(&world, webhook(&receiver, Body::Lines), true);
    world.deciding().await;
    until("the webhook to be tried twice", async || (receiver.posted().len() >= 2).then_some(())).await;
    world.deciding().await;
    let lag = format!("phasebroker_export_lag_events{{sink=\"hook\"}} {}", size(&world).await);
    until("its lag to be shown", async || metrics(&world).await.contains(&lag).then_some(())).await;
    assert!(!metrics(&world).await.contains("phasebroker_export_failures_total{sink=\"hook\"} 0"));
    receiver.answer(204, "");
    let all: Vec<u64> = (0..size(&world).await).collect();
    until("everything to be delivered", async || (indices(&receiver.objects()) == all).then_some(())).await;
    let zero = "phasebroker_export_lag_events{sink=\"hook\"} 0";
    until("its lag to be none", async || metrics(&world).await.contains(zero).then_some(())).await;
    let first = &receiver.posted()[0];
    assert_eq!(first.headers["content-type"], "application/x-ndjson");
    sink.end().await;
}

#[tokio::test]
async fn a_restarted_sink_goes_on_where_it_stood_and_a_new_one_begins_at_the_end() {
    let world = World::start().await;
    let receiver = Receiver::start(200).await;
    let before = size(&world).await;
    let sink = Running::start(&world, webhook(&receiver, Body::Lines), false);
    let begun = async || world.store.cursor("sink:hook").await.unwrap();
    until("the sink to begin", begun).await;
    run(&world).await;
    // A shutdown lets it take what is left.
    sink.end().await;
    run(&world).await;
    let sink = Running::start(&world, webhook(&receiver, Body::Lines), false);
    run(&world).await;
    let all: Vec<u64> = (before..size(&world).await).collect();
    assert_eq!(all.len(), 3);
    until("the rest to be delivered", async || (indices(&receiver.objects()).len() >= 3).then_some(())).await;
    assert_eq!(indices(&receiver.objects()), all);
    sink.end().await;
    assert_eq!(world.store.cursor("sink:hook").await.unwrap(), Some(size(&world).await));
}

/// Prunes what the log has so far; gives the first entry that is kept.
async fn pruned(world: &World) -> u64 {
    let event = |pruned: Pruned, at| {
        Event::new(EventKind::LogPruned, Actor::Broker, at).fact("before", pruned.first_kept)
    };
    let later = world.store.head().await.unwrap().at.plus(1);
    world.store.prune(later, 10_000, event).await.unwrap().unwrap().first_kept
}

#[tokio::test]
async fn a_sink_behind_what_was_pruned_says_how_much_it_missed_once_and_gets_the_rest() {
    let world = World::start().await;
    let receiver = Receiver::start(500).await;
    world.store.keep_cursor("sink:hook", 0).await.unwrap();
    let first = pruned(&world).await;
    assert!(first > 0);
    run(&world).await;
    let sink = Running::start(&world, webhook(&receiver, Body::Lines), true);
    // One for what is missing, and one for each try that failed: not one of each for every try.
    let shown = async |count: usize| {
        let line = format!("phasebroker_export_failures_total{{sink=\"hook\"}} {count}\n");
        metrics(&world).await.contains(&line).then_some(())
    };
    until("two tries", async || (receiver.posted().len() == 2).then_some(())).await;
    until("both to be counted, and the gap once", async || shown(3).await).await;
    receiver.answer(204, "");
    let rest: Vec<u64> = (first..size(&world).await).collect();
    until("the rest", async || (indices(&receiver.objects()) == rest).then_some(())).await;
    sink.end().await;
}

#[tokio::test]
async fn a_new_sink_begins_with_the_first_event_there_is_and_misses_nothing() {
    let world = World::start().await;
    let receiver = Receiver::start(204).await;
    let first = pruned(&world).await;
    let sink = Running::start(&world, webhook(&receiver, Body::Lines), true);
    let rest: Vec<u64> = (first..size(&world).await).collect();
    until("everything there is", async || (indices(&receiver.objects()) == rest).then_some(())).await;
    sink.end().await;
    assert!(!metrics(&world).await.contains("phasebroker_export_failures_total{sink=\"hook\"}"));
}

#[tokio::test]
async fn a_receiver_behind_what_was_pruned_is_counted_once_and_goes_on() {
    let world = World::start().await;
    let receiver = PollReceiver { audience: "cells".into(), all: true };
    world.store.keep_cursor("poll:cells", 0).await.unwrap();
    let first = pruned(&world).await;
    let failed = "phasebroker_export_failures_total{sink=\"poll:cells\"} 1\n";
    assert!(!metrics(&world).await.contains(failed));
    world.deciding().await;
    for _ in 0..2 {
        let asked = PollAsked { most: 100, ..PollAsked::default() };
        let polled = world.broker.poll(&receiver, asked).await.unwrap();
        assert!(!polled.sets.is_empty());
        assert!(metrics(&world).await.contains(failed));
    }
    assert!(world.store.cursor("poll:cells").await.unwrap().unwrap() >= first);
}

/// Takes few events at a time.
struct Narrow(Arc<Mutex<Vec<u64>>>);

#[async_trait::async_trait]
impl Sink for Narrow {
    fn name(&self) -> &str {
        "narrow"
    }
    async fn deliver(&self, events: &[LoggedEvent]) -> Result<Delivered, SinkError> {
        if events.len() > 4 {
            return Err(SinkError::nothing("413 Payload Too Large"));
        }
        // And not always all of them.
        let taken = events.len().min(3);
        self.0.lock().unwrap().extend(events[..taken].iter().map(|event| event.index));
        Ok(Delivered { taken, refused: 0 })
    }
}

#[tokio::test]
async fn a_receiver_that_refuses_what_is_large_gets_everything_in_smaller_batches() {
    let world = World::start().await;
    for _ in 0..3 {
        world.deciding().await;
    }
    let taken = Arc::new(Mutex::new(Vec::new()));
    let sink = Running::start(&world, Narrow(taken.clone()), true);
    let all: Vec<u64> = (0..size(&world).await).collect();
    assert!(all.len() > 16);
    until("everything", async || (*taken.lock().unwrap() == all).then_some(())).await;
    sink.end().await;
}

#[tokio::test]
async fn a_place_that_moves_is_no_event() {
    let world = World::start().await;
    let before = world.store.head().await.unwrap();
    assert_eq!(world.store.cursor("sink:new").await.unwrap(), None);
    for place in [3, 1] {
        world.store.keep_cursor("sink:new", place).await.unwrap();
        assert_eq!(world.store.cursor("sink:new").await.unwrap(), Some(place));
    }
    assert_eq!(world.store.cursor("sink:other").await.unwrap(), None);
    assert_eq!(world.store.head().await.unwrap(), before);
}

#[tokio::test]
async fn a_sink_that_hangs_holds_up_no_other_and_no_issuance() {
    let world = World::start().await;
    // It takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let post = Post::new(format!("http://{}", silent.local_addr().unwrap()), None).unwrap();
    let hanging = Running::start(&world, Webhook::new("hangs".into(), post, Body::Lines), true);
    let path = world.dir.path().join("events.jsonl");
    let file = Running::start(&world, LineFile::start("file".into(), path.clone()).unwrap(), true);
    let (_connection, _) = silent.accept().await.unwrap();
    world.deciding().await;
    let all: Vec<u64> = (0..size(&world).await).collect();
    until("the file to have everything", async || (indices(&lines(&path)) == all).then_some(())).await;
    assert_eq!(world.store.cursor("sink:hangs").await.unwrap(), Some(0));
    file.end().await;
    hanging.task.abort();
}

#[tokio::test]
async fn a_rotated_file_is_begun_anew_without_a_gap() {
    let world = World::start().await;
    let (path, old) = (world.dir.path().join("events.jsonl"), world.dir.path().join("events.jsonl.1"));
    let sink = Running::start(&world, LineFile::start("file".into(), path.clone()).unwrap(), true);
    let first = size(&world).await;
    until("the first events", async || (indices(&lines(&path)).len() as u64 == first).then_some(())).await;
    std::fs::rename(&path, &old).unwrap();
    run(&world).await;
    until("the new file", async || (!lines(&path).is_empty()).then_some(())).await;
    let both = [indices(&lines(&old)), indices(&lines(&path))].concat();
    assert_eq!(both, (0..size(&world).await).collect::<Vec<u64>>());
    sink.end().await;
}

#[tokio::test]
async fn a_webhook_gets_an_array_and_a_secret_from_its_file_when_it_is_configured_so() {
    let world = World::start().await;
    let receiver = Receiver::start(200).await;
    let file = world.dir.path().join("secret");
    std::fs::write(&file, "Bearer first\n").unwrap();
    let secret = SecretHeader { name: "authorization".parse().unwrap(), file: file.clone() };
    let post = Post::new(receiver.url.clone(), Some(secret)).unwrap();
    let sink = Running::start(&world, Webhook::new("hook".into(), post, Body::Array), true);
    until("the first batch", async || (!receiver.taken().is_empty()).then_some(())).await;
    let posted = &receiver.posted()[0];
    assert_eq!(posted.headers["authorization"], "Bearer first");
    let array: Vec<Value> = serde_json::from_str(&posted.body).unwrap();
    assert_eq!(indices(&array)[0], 0);
    std::fs::write(&file, "Bearer second\n").unwrap();
    run(&world).await;
    until("the next batch", async || (receiver.taken().len() > 1).then_some(())).await;
    assert_eq!(receiver.posted()[1].headers["authorization"], "Bearer second");
    // Without its secret nothing is sent.
    std::fs::remove_file(&file).unwrap();
    let count = receiver.posted().len();
    run(&world).await;
    let failed = "phasebroker_export_failures_total{sink=\"hook\"} 1";
    until("a failure to be counted", async || metrics(&world).await.contains(failed).then_some(())).await;
    assert_eq!(receiver.posted().len(), count);
    sink.end().await;
}

/// The object of an RFC 5424 message, whose header is checked.
fn message(text: &str) -> Value {
    let parts: Vec<&str> = text.splitn(8, ' ').collect();
    let [pri, at, host, app, process, kind, data, object] = parts[..] else { panic!("{text}") };
    assert!(["<110>1", "<109>1", "<108>1", "<107>1"].contains(&pri), "{pri}");
    assert!(at.ends_with('Z') && at.len() == 20, "{at}");
    assert_eq!((host, app, process, data), ("broker.test", "phasebroker", "-", "-"));
    let object: Value = serde_json::from_str(object).unwrap();
    assert_eq!(object["metadata"]["event_code"], kind);
    object
}

fn syslog(address: Address) -> Syslog {
    Syslog::new("log".into(), address, "broker.test")
}

#[tokio::test]
async fn a_syslog_over_udp_gets_one_message_a_datagram() {
    let world = World::start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Udp(socket.local_addr().unwrap().to_string());
    let sink = Running::start(&world, syslog(address), true);
    let mut buffer = vec![0; 65_536];
    for index in 0..size(&world).await {
        let length = socket.recv(&mut buffer).await.unwrap();
        let object = message(std::str::from_utf8(&buffer[..length]).unwrap());
        assert_eq!(object["unmapped"]["index"], index);
    }
    sink.end().await;
}

#[tokio::test]
async fn a_local_syslog_that_comes_back_gets_what_it_missed() {
    let world = World::start().await;
    let path = world.dir.path().join("log");
    let sink = Running::start(&world, syslog(Address::Unix(path.clone())), true);
    let failed = "phasebroker_export_failures_total{sink=\"log\"} 1";
    until("a failure to be counted", async || metrics(&world).await.contains(failed).then_some(())).await;
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut buffer = vec![0; 65_536];
    for index in 0..size(&world).await {
        let length = socket.recv(&mut buffer).await.unwrap();
        let object = message(std::str::from_utf8(&buffer[..length]).unwrap());
        assert_eq!(object["unmapped"]["index"], index);
    }
    sink.end().await;
}

/// Reads one octet-counted message.
async fn framed(stream: &mut tokio::net::TcpStream) -> Value {
    let mut length = 0;
    loop {
        match stream.read_u8().await.unwrap() {
            b' ' => break,
            digit => length = length * 10 + usize::from(digit - b'0'),
        }
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await.unwrap();
    message(std::str::from_utf8(&text).unwrap())
}

#[tokio::test]
async fn a_syslog_over_tcp_gets_octet_counted_messages_and_a_new_connection_when_it_closed_the_old() {
    let world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let sink = Running::start(&world, syslog(address), true);
    let (mut stream, _) = listener.accept().await.unwrap();
    let first = size(&world).await;
    for index in 0..first {
        assert_eq!(framed(&mut stream).await["unmapped"]["index"], index);
    }
    drop(stream);
    run(&world).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(framed(&mut stream).await["unmapped"]["index"], first);
    sink.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_copies_its_log_to_every_sink_of_its_configuration_through_a_restart() {
    let place = Place::new(None);
    let receiver = Receiver::start(200).await;
    let written = std::fs::read_to_string(place.path("broker.toml")).unwrap();
    let mut config: Value = toml::from_str(&written).unwrap();
    config["exports"] = json!([
        {"name": "file", "kind": "file", "path": "events.jsonl", "from_start": true},
        {"name": "hook", "kind": "webhook", "url": receiver.url, "from_start": true},
        {"name": "out", "kind": "stdout", "from_start": true},
    ]);
    place.write("broker.toml", &config);
    let running = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    running.stop().await;
    let running = place.serve().await;
    place.claim(&it).await.map(drop).unwrap();
    running.stop().await;
    let file = lines(&place.path("events.jsonl"));
    let all: Vec<u64> = (0..file.len() as u64).collect();
    assert_eq!(indices(&file), all, "each once, in order: both ends were orderly");
    assert_eq!(receiver.objects(), file);
    let log = place.log();
    let out: Vec<Value> = log
        .lines()
        .filter(|line| line.starts_with("{\"activity_id\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(out, file);
    let released = file.iter().filter(|object| object["metadata"]["event_code"] == "lease.released");
    let execute = released.map(|object| object["privileges"][0].as_str().unwrap().to_owned()).next_back();
    assert_eq!(execute.as_deref(), Some("phase:execute"));
}
