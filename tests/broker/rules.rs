//! The rules of the test world: three environments, actions that one person, two people or two groups sign, and a
//! directory whose every key the test holds.

use phasebroker::broker::rules::Rules;
use phasebroker::catalog::{Catalog, CatalogDocument, iam::ActionTable};
use phasebroker::domain::directory::{Directory, DirectoryDocument};
use phasebroker::guardrails::{Guardrails, GuardrailsDocument};
use phasebroker::policy::PolicySet;
use serde_json::{Value, json};

use super::people::Keys;

/// The audience of environment `demo`, which introspects.
pub const RESOURCE: &str = "http://127.0.0.1:8478";
/// The account of environment `cloud`, which has `aws` and `jwt`.
pub const ACCOUNT: &str = "123456789012";

const CATALOG: &str = r#"
[environments.demo.jwt]
audience = "http://127.0.0.1:8478"
introspects = true

[environments.stage.jwt]
audience = "http://127.0.0.1:8479"

[environments.cloud.jwt]
audience = "http://127.0.0.1:8480"

[environments.cloud.aws]
account = "123456789012"
region = "us-east-1"
execute_role = "arn:aws:iam::123456789012:role/broker/execute"
observe_role = "arn:aws:iam::123456789012:role/broker/observe"

[actions.restart-service]
summary = "Restart the service {service} ({reason_code})"
provider = "jwt"
class = "availability"
reversible = true
rollback = "None needed"
changes = 1
max_work_seconds = 60
environments = ["demo", "stage"]

[actions.restart-service.parameters.service]
type = "string"
pattern = "[a-z][a-z0-9-]*"
max_length = 40

[actions.restart-service.parameters.reason_code]
type = "choice"
values = ["high-latency", "memory-leak", "stuck-deploy"]

[actions.scale-service]
summary = "Run {replicas} replicas of the service {service}"
provider = "jwt"
class = "availability"
reversible = true
rollback = "Scale back"
changes = 2
max_work_seconds = 60
environments = ["demo"]

[actions.scale-service.parameters.service]
type = "string"
pattern = "[a-z][a-z0-9-]*"
max_length = 40

[actions.scale-service.parameters.replicas]
type = "integer"
min = 1
max = 12

[actions.restore-data]
summary = "Restore the data of {service} from snapshot {snapshot}"
provider = "jwt"
class = "data"
reversible = false
changes = 1
max_work_seconds = 60
environments = ["demo"]

[actions.restore-data.parameters.service]
type = "string"
pattern = "[a-z][a-z0-9-]*"
max_length = 40

[actions.restore-data.parameters.snapshot]
type = "string"
pattern = "snap-[0-9a-f]{4,12}"

[actions.reboot-instance]
summary = "Reboot the EC2 instance {instance}"
provider = "aws"
class = "availability"
reversible = true
rollback = "None needed"
changes = 1
max_work_seconds = 120
environments = ["cloud"]

[actions.reboot-instance.parameters.instance]
type = "string"
pattern = "i-[0-9a-f]{8,17}"

[[actions.reboot-instance.statements]]
actions = ["ec2:RebootInstances"]
resources = ["arn:{partition}:ec2:{region}:{account}:instance/{instance}"]

[observe.service-status]
provider = "jwt"
environments = ["demo", "stage", "cloud"]
seconds = 600

[observe.aws-basics]
provider = "aws"
environments = ["cloud"]
seconds = 300

[[observe.aws-basics.statements]]
actions = ["ec2:DescribeInstances"]
resources = ["*"]
"#;

const POLICY: &str = r#"
@id("one")
@decision("needs_approval")
@approvals("on-call: 1")
@custody("file, ssh_agent, passkey")
@approve_seconds("900")
@claim_seconds("120")
@work_seconds("60")
permit (principal, action == Action::"execute", resource)
when { resource.class == Class::"availability" && context.changes == 1 };

@id("two")
@decision("needs_approval")
@approvals("on-call: 2")
@custody("file, ssh_agent, passkey")
@approve_seconds("900")
@claim_seconds("120")
@work_seconds("60")
permit (principal, action == Action::"execute", resource)
when { resource.class == Class::"availability" && context.changes > 1 };

@id("two-groups")
@decision("needs_approval")
@approvals("on-call: 1, data-owners: 1")
@custody("file, passkey")
@approve_seconds("900")
@claim_seconds("120")
@work_seconds("60")
permit (principal, action == Action::"execute", resource)
when { resource.class == Class::"data" };
"#;

/// Budgets that no test passes by the way; two people unfreeze.
const GUARDRAILS: &str = r#"
authors = ["audrey"]

[taint]
window_seconds = 3600

[budgets.run-changes]
counts = "changes"
per = ["run"]
step_up_at = 1000
limit = 10000

[budgets.agent-hour]
counts = "changes"
per = ["agent"]
seconds = 3600
step_up_at = 10000
limit = 100000

[administration]
approve_seconds = 900

[administration.unfreeze]
approvals = { on-call = 1, data-owners = 1 }
custody = ["file", "passkey"]

[break_glass]
environments = ["demo", "stage"]
approve_seconds = 300
claim_seconds = 60
work_seconds = 60
review_owner = "data-owners"
review_seconds = 3600

[break_glass.signed_by]
approvals = { on-call = 2 }
custody = ["file", "passkey"]
"#;

/// Rules as written; a test changes them and reloads.
pub struct Written {
    /// The catalog's text.
    pub catalog: String,
    /// The policy's text.
    pub policy: String,
    /// The directory document, as JSON.
    pub directory: Value,
    /// The guardrails' text.
    pub guardrails: String,
}

impl Written {
    /// People: `alice` (approver, owns both agents), `bob` (on call, with a second key `bob2`), `erin` (on call, ES256),
    /// `sam` (on call, key in an ssh-agent), `dana` (data owner), `rita` (approver in no group), `olga` (operator and
    /// auditor), `audrey` (auditor). Agents: `fixer`, `twin`.
    pub fn usual(keys: &Keys) -> Self {
        let key =
            |name: &str, custody: &str| json!({"custody": custody, "jwk": keys.of(name).public().jwk()});
        let person =
            |roles: &[&str], keys: &[Value]| json!({"name": "A person", "roles": roles, "keys": keys});
        let agent = |slug: &str| json!({"owner": "alice", "keys": [keys.of(slug).public().jwk()]});
        let directory = json!({
            "people": {
                "alice": person(&["approver"], &[key("alice", "file")]),
                "bob": person(&["approver"], &[key("bob", "file"), key("bob2", "file")]),
                "erin": person(&["approver"], &[key("erin", "file")]),
                "sam": person(&["approver"], &[key("sam", "ssh_agent")]),
                "dana": person(&["approver"], &[key("dana", "file")]),
                "rita": person(&["approver"], &[key("rita", "file")]),
                "olga": person(&["operator", "auditor"], &[key("olga", "file")]),
                "audrey": person(&["auditor"], &[key("audrey", "file")]),
            },
            "groups": {
                "on-call": {"people": ["alice", "bob", "erin", "sam"]},
                "data-owners": {"people": ["dana", "bob"]},
            },
            "agents": {"fixer": agent("fixer"), "twin": agent("twin")},
        });
        Self { catalog: CATALOG.into(), policy: POLICY.into(), directory, guardrails: GUARDRAILS.into() }
    }

    /// Checked whole.
    pub fn rules(&self) -> Result<Rules, String> {
        let table = ActionTable::embedded().map_err(|e| e.to_string())?;
        let catalog = CatalogDocument::from_toml(&self.catalog).map_err(|e| format!("{e:?}"))?;
        let guardrails = GuardrailsDocument::from_toml(&self.guardrails).map_err(|e| e.to_string())?;
        let document: DirectoryDocument =
            serde_json::from_value(self.directory.clone()).map_err(|e| e.to_string())?;
        Ok(Rules {
            catalog: Catalog::check(&catalog, table).map_err(|e| format!("{e:?}"))?,
            policy: PolicySet::load(&[("test".into(), self.policy.clone())]).map_err(|e| format!("{e:?}"))?,
            directory: Directory::check(document).map_err(|e| format!("{e:?}"))?,
            guardrails: Guardrails::check(guardrails).map_err(|e| format!("{e:?}"))?,
        })
    }

    /// Takes a person out of the directory and every group.
    pub fn remove(&mut self, person: &str) {
        self.directory["people"].as_object_mut().unwrap().remove(person);
        for group in self.directory["groups"].as_object_mut().unwrap().values_mut() {
            group["people"].as_array_mut().unwrap().retain(|slug| slug != person);
        }
    }
}
