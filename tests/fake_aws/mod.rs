//! A recording fake of STS and IAM on loopback: it answers, refuses, hangs, breaks off and dies on order, counts what it
//! minted, and gives every session secrets of its own. It knows no policy semantics.
#![allow(dead_code, reason = "each integration test compiles this module and uses its own part of it")]

pub mod scene;
pub mod signed;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use phasebroker::domain::time::Timestamp;
use time::macros::format_description;

/// The account in which callers are, unless a test says otherwise.
const HOME: &str = "123456789012";

/// What the fake does with an AssumeRole, by an identity or by a token.
#[derive(Debug, Clone, Default)]
pub enum Behaviour {
    /// Mints and answers.
    #[default]
    Answer,
    /// Refuses with this status and code; mints nothing.
    Refuse(u16, &'static str),
    /// Never answers; mints nothing.
    Hang,
    /// Mints, and answers after this long.
    AnswerAfter(Duration),
    /// Mints, and breaks the connection off in the middle of the answer.
    BreakOff,
    /// Mints, and closes the connection without a byte.
    Die,
    /// Mints, and answers something that is no answer.
    Babble,
    /// Mints, and answers with an expiration that is so many seconds off.
    ExpirationOff(i64),
    /// Mints, and answers with this source identity.
    SourceIdentity(&'static str),
}

/// What the fake does with the calls of IAM for a role.
#[derive(Debug, Clone, Copy)]
pub enum IamFault {
    /// Refuses with this status and code.
    Refuse(u16, &'static str),
    /// Takes one call of so many, and throttles the others.
    Throttle(u32),
    /// Answers after this long.
    Slow(Duration),
    /// Refuses so many reads with this code, and takes every write.
    RefuseReads(u32, &'static str),
    /// Takes a write, and keeps what was there.
    Forget,
}

/// A request as it came: every form member.
pub type Request = BTreeMap<String, String>;

/// The fake, serving until it is dropped.
pub struct FakeAws {
    state: Arc<Fake>,
    url: String,
    serving: tokio::task::JoinHandle<()>,
}

struct Fake(Mutex<Inner>);

struct Inner {
    now: Timestamp,
    behaviour: Behaviour,
    iam_refuses: Option<(u16, &'static str)>,
    faults: HashMap<String, IamFault>,
    iam_calls: u32,
    tells_date: bool,
    account: Option<&'static str>,
    keys: HashMap<&'static str, &'static str>,
    identity_hangs: bool,
    requests: Vec<Request>,
    minted: u32,
    packed: u32,
    policies: HashMap<(String, String), String>,
    /// Role and lease of each session, by its access key.
    sessions: HashMap<String, (String, String)>,
    regions: Regions,
    tells_zones: bool,
}

/// How EC2 answers a session that asks for regions. Session policies and tags mean nothing here: a session is denied when
/// an inline policy of its role names its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regions {
    /// So many calls after a Deny was written are still allowed.
    UntilDenied(u32),
    /// Once a Deny was written, it is refused so many seconds later by AWS's own clock.
    Later(i64),
    /// Whatever is written.
    Always,
    /// Nobody ever.
    Never,
}

impl FakeAws {
    /// Starts on a port of its own, with its clock at `now`.
    pub async fn start(now: Timestamp) -> Self {
        let state = Arc::new(Fake(Mutex::new(Inner {
            now,
            behaviour: Behaviour::Answer,
            iam_refuses: None,
            faults: HashMap::new(),
            iam_calls: 0,
            tells_date: true,
            account: Some(HOME),
            keys: HashMap::new(),
            identity_hangs: false,
            requests: Vec::new(),
            minted: 0,
            packed: 6,
            policies: HashMap::new(),
            sessions: HashMap::new(),
            regions: Regions::UntilDenied(0),
            tells_zones: false,
        })));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(state.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { state, url, serving }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.inner().behaviour = behaviour;
    }

    pub fn refuse_iam(&self, with: Option<(u16, &'static str)>) {
        self.inner().iam_refuses = with;
    }

    /// What befalls the calls for one role.
    pub fn befall(&self, role: &str, fault: Option<IamFault>) {
        let mut inner = self.inner();
        match fault {
            Some(fault) => drop(inner.faults.insert(role.to_owned(), fault)),
            None => drop(inner.faults.remove(role)),
        }
    }

    pub fn set_clock(&self, now: Timestamp) {
        self.inner().now = now;
    }

    pub fn tell_date(&self, tells: bool) {
        self.inner().tells_date = tells;
    }

    /// How EC2 answers from now on.
    pub fn tell_regions(&self, regions: Regions) {
        self.inner().regions = regions;
    }

    /// Whether EC2 also tells a session of zones, which no session policy of a probe names.
    pub fn tell_zones(&self, tells: bool) {
        self.inner().tells_zones = tells;
    }

    /// The account in which every caller is; `None` refuses to say.
    pub fn put_callers_in(&self, account: Option<&'static str>) {
        self.inner().account = account;
    }

    /// The account of whoever calls with an access key.
    pub fn put_key_in(&self, key: &'static str, account: &'static str) {
        self.inner().keys.insert(key, account);
    }

    /// Whether nobody is told who they are, nor that they are not.
    pub fn hang_on_identity(&self, hangs: bool) {
        self.inner().identity_hangs = hangs;
    }

    /// Percent of the packed size that session policies take from now on.
    pub fn pack(&self, percent: u32) {
        self.inner().packed = percent;
    }

    /// How many sessions exist.
    pub fn minted(&self) -> u32 {
        self.inner().minted
    }

    /// The requests of one action, oldest first.
    pub fn requests(&self, action: &str) -> Vec<Request> {
        self.inner().requests.iter().filter(|request| request["Action"] == action).cloned().collect()
    }

    /// The actions that were asked of IAM, oldest first.
    pub fn iam_actions(&self) -> Vec<String> {
        let inner = self.inner();
        let actions = inner.requests.iter().map(|request| request["Action"].clone());
        actions.filter(|action| action.ends_with("RolePolicy")).collect()
    }

    pub fn policy(&self, role: &str, name: &str) -> Option<String> {
        self.inner().policies.get(&(role.to_owned(), name.to_owned())).cloned()
    }

    /// Changes a policy behind everybody's back; `None` deletes it.
    pub fn edit_policy(&self, role: &str, name: &str, text: Option<&str>) {
        let key = (role.to_owned(), name.to_owned());
        match text {
            Some(text) => drop(self.inner().policies.insert(key, text.to_owned())),
            None => drop(self.inner().policies.remove(&key)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    State(fake): State<Arc<Fake>>,
    headers: HeaderMap,
    Form(mut request): Form<Request>,
) -> Response {
    // Beside the form's own members: who signed, and for which region; a token is sent by nobody in particular.
    if let Some(signed) = headers.get("authorization") {
        let mut scope = signed.to_str().unwrap().split("Credential=").nth(1).unwrap().split('/');
        request.insert("SignedBy".into(), scope.next().unwrap().into());
        request.insert("SignedFor".into(), scope.nth(1).unwrap().into());
    }
    let (behaviour, date, said) = {
        let mut inner = fake.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        inner.requests.push(request.clone());
        let said = match request["Action"].as_str() {
            action @ ("AssumeRole" | "AssumeRoleWithWebIdentity") => inner.assume_role(action, &request),
            "GetCallerIdentity" => {
                inner.account_of(&request["SignedBy"]).ok_or((403, "AccessDenied")).map(|account| {
                    let body =
                        format!("<Arn>arn:aws:iam::{account}:role/broker</Arn><Account>{account}</Account>");
                    result("GetCallerIdentity", &body)
                })
            }
            "DescribeRegions" => inner.describe_regions(&request["SignedBy"]),
            "DescribeAvailabilityZones" if inner.tells_zones => Ok(result("DescribeAvailabilityZones", "")),
            "DescribeAvailabilityZones" => Err((403, "UnauthorizedOperation")),
            action => inner.iam(action, &request),
        };
        let is_mint = request["Action"].starts_with("AssumeRole");
        let hangs = inner.identity_hangs && request["Action"] == "GetCallerIdentity";
        let slow = request.get("RoleName").and_then(|role| match inner.faults.get(role) {
            Some(IamFault::Slow(delay)) => Some(Behaviour::AnswerAfter(*delay)),
            _ => None,
        });
        let behaviour = match (is_mint, hangs) {
            (false, false) if slow.is_some() => slow.unwrap(),
            (true, _) => inner.behaviour.clone(),
            (false, true) => Behaviour::Hang,
            (false, false) => Behaviour::Answer,
        };
        (behaviour, inner.tells_date.then_some(inner.now), said)
    };
    let (status, text) = match said {
        Ok(text) => (StatusCode::OK, text),
        Err((status, code)) => {
            let text = format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>said the fake</Message></Error>\
                 <RequestId>r</RequestId></ErrorResponse>"
            );
            (StatusCode::from_u16(status).unwrap(), text)
        }
    };
    let mut body = Body::from(text.clone());
    match behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::AnswerAfter(delay) => tokio::time::sleep(delay).await,
        Behaviour::Die => panic!("the fake dies on order"),
        Behaviour::Babble => body = Body::from("<html>a captive portal</html>"),
        Behaviour::BreakOff => {
            let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
            let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            body = Body::from_stream(stream::iter([Ok(half), Err(broken)]));
        }
        _ => {}
    }
    // An empty date keeps the server from adding one of its own.
    let date = date.map(http_date).unwrap_or_default();
    Response::builder().status(status).header(header::DATE, date).body(body).unwrap()
}

impl Inner {
    fn account_of(&self, key: &str) -> Option<&'static str> {
        self.keys.get(key).copied().or(self.account)
    }

    fn assume_role(&mut self, action: &str, request: &Request) -> Result<String, (u16, &'static str)> {
        let off = match self.behaviour {
            Behaviour::Refuse(status, code) => return Err((status, code)),
            Behaviour::Hang => return Ok(String::new()),
            Behaviour::ExpirationOff(seconds) => seconds,
            _ => 0,
        };
        let source = match self.behaviour {
            Behaviour::SourceIdentity(of) => format!("<SourceIdentity>{of}</SourceIdentity>"),
            _ => String::new(),
        };
        self.minted += 1;
        let n = self.minted;
        let last = |member: &str, at: char| {
            request.get(member).and_then(|text| text.rsplit(at).next()).unwrap_or_default().to_owned()
        };
        self.sessions.insert(format!("ASIA{n:016}"), (last("RoleArn", '/'), last("RoleSessionName", '-')));
        let expiration = self.now.plus(900 + off).rfc3339();
        Ok(result(
            action,
            &format!(
                "<Credentials><AccessKeyId>ASIA{n:016}</AccessKeyId><SecretAccessKey>secret-{n}</SecretAccessKey>\
                 <SessionToken>token-{n}</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
                 <PackedPolicySize>{}</PackedPolicySize>{source}",
                self.packed
            ),
        ))
    }

    fn describe_regions(&mut self, key: &str) -> Result<String, (u16, &'static str)> {
        let session = self.sessions.get(key);
        let denied = session.is_some_and(|(role, lease)| {
            self.policies.iter().any(|((of, _), text)| of == role && text.contains(lease.as_str()))
        });
        let allowed = match self.regions {
            Regions::Always => true,
            Regions::Never => false,
            Regions::UntilDenied(_) | Regions::Later(_) if !denied => true,
            Regions::Later(seconds) => {
                self.now = self.now.plus(seconds);
                false
            }
            Regions::UntilDenied(left) => {
                self.regions = Regions::UntilDenied(left.saturating_sub(1));
                left > 0
            }
        };
        match allowed {
            true => Ok(result("DescribeRegions", "")),
            false => Err((403, "UnauthorizedOperation")),
        }
    }

    fn iam(&mut self, action: &str, request: &Request) -> Result<String, (u16, &'static str)> {
        if let Some(refusal) = self.iam_refuses {
            return Err(refusal);
        }
        // IAM finds a role by its name, in the caller's own account.
        let role = match self.account_of(&request["SignedBy"]) {
            Some(account) if account != HOME => format!("{account}/{}", request["RoleName"]),
            _ => request["RoleName"].clone(),
        };
        let key = (role, request["PolicyName"].clone());
        self.iam_calls += 1;
        match self.faults.get_mut(&key.0) {
            Some(IamFault::Refuse(status, code)) => return Err((*status, code)),
            Some(IamFault::RefuseReads(left, code)) if action == "GetRolePolicy" && *left > 0 => {
                *left -= 1;
                return Err((400, code));
            }
            Some(IamFault::Throttle(of)) if !self.iam_calls.is_multiple_of(*of) => {
                return Err((400, "Throttling"));
            }
            Some(IamFault::Forget) if action != "GetRolePolicy" => return Ok(result(action, "")),
            _ => {}
        }
        let missing = (404, "NoSuchEntity");
        match action {
            "PutRolePolicy" => {
                self.policies.insert(key, request["PolicyDocument"].clone());
                Ok(result(action, ""))
            }
            "DeleteRolePolicy" => self.policies.remove(&key).map(|_| result(action, "")).ok_or(missing),
            "GetRolePolicy" => {
                let text = self.policies.get(&key).ok_or(missing)?;
                let encoded: String = text.bytes().map(percent_encoded).collect();
                let body = format!(
                    "<RoleName>{}</RoleName><PolicyName>{}</PolicyName><PolicyDocument>{encoded}</PolicyDocument>",
                    key.0, key.1
                );
                Ok(result(action, &body))
            }
            _ => Err((400, "InvalidAction")),
        }
    }
}

fn result(action: &str, body: &str) -> String {
    format!(
        "<{action}Response><{action}Result>{body}</{action}Result>\
         <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    )
}

fn percent_encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

fn http_date(at: Timestamp) -> String {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::OffsetDateTime::from_unix_timestamp(at.seconds()).unwrap().format(&form).unwrap()
}
