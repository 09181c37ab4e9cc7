//! Which class of OCSF an event is, kind by kind. The table is whole: a new kind of event does not build without a row.

use crate::broker::ports::LoggedEvent;
use crate::domain::event::EventKind as K;
use crate::domain::reconciliation::Verdict;

/// Classes of OCSF 1.8 that our events are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Authentication,
    AuthorizeSession,
    EntityManagement,
    UserAccess,
    ApplicationLifecycle,
    ApiActivity,
}

impl Class {
    pub(super) fn uid(self) -> u32 {
        match self {
            Self::Authentication => 3002,
            Self::AuthorizeSession => 3003,
            Self::EntityManagement => 3004,
            Self::UserAccess => 3005,
            Self::ApplicationLifecycle => 6002,
            Self::ApiActivity => 6003,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Authentication => "Authentication",
            Self::AuthorizeSession => "Authorize Session",
            Self::EntityManagement => "Entity Management",
            Self::UserAccess => "User Access Management",
            Self::ApplicationLifecycle => "Application Lifecycle",
            Self::ApiActivity => "API Activity",
        }
    }

    pub(super) fn category(self) -> (u32, &'static str) {
        match self.uid() / 1000 {
            3 => (3, "Identity & Access Management"),
            _ => (6, "Application Activity"),
        }
    }

    /// The name of an activity of this class.
    pub(super) fn activity(self, id: u32) -> &'static str {
        let names: &[&str] = match self {
            Self::Authentication => &["Logon", "Logoff"],
            Self::AuthorizeSession => &["Assign Privileges"],
            Self::EntityManagement => &[
                "Create",
                "Read",
                "Update",
                "Delete",
                "Move",
                "Enroll",
                "Unenroll",
                "Enable",
                "Disable",
                "Activate",
                "Deactivate",
                "Suspend",
                "Resume",
            ],
            Self::UserAccess => &["Assign Privileges", "Revoke Privileges"],
            Self::ApplicationLifecycle => &["Install", "Remove", "Start", "Stop"],
            Self::ApiActivity => &["Create", "Read", "Update", "Delete"],
        };
        let at = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        at.and_then(|at| names.get(at)).copied().unwrap_or("Other")
    }
}

/// `severity_id` of OCSF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Informational = 1,
    Low = 2,
    Medium = 3,
    High = 4,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

/// `status_id` of OCSF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Unknown = 0,
    Success = 1,
    Failure = 2,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Success => "Success",
            Self::Failure => "Failure",
        }
    }
}

/// Where the id of what an event is about stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Run,
    Grant,
    Lease,
    Fact(&'static str),
}

impl Named {
    pub(super) fn of(self, event: &LoggedEvent) -> String {
        let found = match self {
            Self::Run => event.run.map(|id| id.to_string()),
            Self::Grant => event.grant.map(|id| id.to_string()),
            Self::Lease => event.lease.map(|id| id.to_string()),
            Self::Fact(name) => event.fact(name).map(str::to_owned),
        };
        found.unwrap_or_else(|| event.uid())
    }
}

/// What an event is in OCSF.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) class: Class,
    pub(super) activity: u32,
    pub(super) status: Status,
    pub(super) severity: Severity,
    /// What it is about, and where its id stands.
    pub(super) what: &'static str,
    pub(super) named: Named,
}

impl Row {
    fn new(class: Class, activity: u32, what: &'static str, named: Named) -> Self {
        Self { class, activity, status: Status::Success, severity: Severity::Informational, what, named }
    }

    fn entity(activity: u32, what: &'static str, named: Named) -> Self {
        Self::new(Class::EntityManagement, activity, what, named)
    }

    fn api(activity: u32) -> Self {
        Self::new(Class::ApiActivity, activity, "lease", Named::Lease)
    }

    fn at(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    fn with(self, status: Status) -> Self {
        Self { status, ..self }
    }
}

// Activities of Entity Management; those of API Activity are the first four too.
const CREATE: u32 = 1;
const READ: u32 = 2;
const UPDATE: u32 = 3;
const DELETE: u32 = 4;
const ENABLE: u32 = 8;
const DISABLE: u32 = 9;
const ACTIVATE: u32 = 10;
const DEACTIVATE: u32 = 11;
const SUSPEND: u32 = 12;
const RESUME: u32 = 13;
const OTHER: u32 = 99;

/// The row of an event.
pub(super) fn row(event: &LoggedEvent) -> Row {
    use Named::{Fact, Grant, Run};
    use Severity::{High, Low, Medium};
    use Status::{Failure, Unknown};
    match event.kind {
        K::BrokerStarted => Row::new(Class::ApplicationLifecycle, 3, "broker", Fact("version")),
        K::StoreFenced => Row::entity(UPDATE, "store", Fact("old_epoch")).at(High),
        K::LogPruned => Row::entity(DELETE, "log entries", Fact("entries")).at(Medium),
        K::TextRedacted => Row::entity(DELETE, "text", Fact("name")).at(Medium),
        K::StepRecorded => Row::entity(CREATE, "step", Run),
        K::RulesChanged => Row::entity(UPDATE, "rules", Fact("policy")).at(Medium),
        K::KeyChanged => Row::entity(UPDATE, "key", Fact("key")).at(High),
        K::KeyCertified => Row::entity(CREATE, "working key", Fact("key")).at(Low),
        K::RunOpened => Row::entity(CREATE, "run", Run),
        K::RunClosed => Row::entity(DEACTIVATE, "run", Run),
        K::PhaseEntered => Row::entity(UPDATE, "run", Run),
        K::GrantSealed => Row::entity(CREATE, "grant", Grant),
        K::GrantSuggested => Row::entity(CREATE, "suggestion", Grant),
        K::ApprovalReceived => Row::entity(CREATE, "approval", Fact("jti")),
        K::GrantApproved => Row::entity(ACTIVATE, "grant", Grant),
        K::GrantDenied => Row::entity(DISABLE, "grant", Grant).at(Low),
        K::ApprovalWithdrawn => Row::entity(DELETE, "approval", Fact("jti")).at(Low),
        K::GrantCancelled | K::GrantLapsed => Row::entity(DEACTIVATE, "grant", Grant),
        K::LeaseIntent => Row::api(CREATE).with(Unknown),
        K::LeaseMinted => Row::api(CREATE),
        K::LeaseRefused => Row::api(CREATE).with(Failure).at(Low),
        K::LeaseUnknown => Row::api(CREATE).with(Unknown).at(Medium),
        K::LeaseReleased => Row::new(Class::AuthorizeSession, 1, "lease", Named::Lease),
        K::LeaseEnded => Row::new(Class::UserAccess, 2, "lease", Named::Lease),
        K::LeaseRecalled => Row::api(READ).at(Low),
        K::RevocationDone => Row::api(DELETE),
        K::RevocationFailed => Row::api(DELETE).with(Failure).at(High),
        K::RevocationOutlived => Row::api(DELETE).with(Failure).at(Medium),
        K::RevocationSeen => Row::api(READ).with(Failure).at(Low),
        K::RevocationUnseen => Row::api(READ).with(Unknown).at(Medium),
        K::LoginFailed => Row::new(Class::Authentication, 1, "login", Fact("code")).with(Failure).at(Medium),
        // Who proved nothing failed to log in; who is known asked for what is not theirs.
        K::Refused if matches!(event.fact("code"), Some("unauthenticated" | "invalid_dpop_proof")) => {
            Row::new(Class::Authentication, 1, "login", Fact("code")).with(Failure).at(Medium)
        }
        K::Refused => Row { activity: OTHER, ..Row::api(OTHER).with(Failure).at(Low) },
        K::Stopped => Row::entity(DISABLE, "stop", Fact("target")).at(Medium),
        K::SignalReceived => Row::entity(SUSPEND, "subject", Fact("subject")).at(Medium),
        K::Frozen => Row::entity(SUSPEND, "freeze", Fact("key")).at(High),
        K::Unfrozen => Row::entity(RESUME, "freeze", Fact("key")).at(Medium),
        K::AdministrationSealed => Row::entity(CREATE, "administration grant", Grant).at(Low),
        K::PlaybookSigned => Row::entity(ENABLE, "playbook", Fact("digest")).at(Medium),
        K::PlaybookSuspended => Row::entity(SUSPEND, "playbook", Fact("digest")).at(Medium),
        K::ReviewOpened => Row::entity(CREATE, "review", Fact("review")),
        K::ReviewAccepted => Row::entity(UPDATE, "review", Fact("review")),
        K::ReviewRejected => Row::entity(UPDATE, "review", Fact("review")).at(High),
        K::ReviewOverdue => Row::entity(UPDATE, "review", Fact("review")).with(Failure).at(Medium),
        K::ObservationRecorded => Row::entity(CREATE, "observation", Run).at(Low),
        K::BreakGlassAsked => Row::entity(CREATE, "break-glass", Grant).at(High),
        K::BreakGlassUsed => Row::entity(ACTIVATE, "break-glass", Grant).at(High),
        K::Reconciled => {
            let row = Row::entity(CREATE, "reconciliation", Named::Lease);
            // One that a newer build writes is not taken for a good one.
            match event.fact("verdict").and_then(Verdict::from_name) {
                Some(verdict) if !verdict.is_bad() => row,
                _ => row.with(Failure).at(High),
            }
        }
        K::IncidentFound => Row::entity(CREATE, "incident", Fact("event")).with(Failure).at(High),
    }
}
