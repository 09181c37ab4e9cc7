locals {
  # IAM does not count white space.
  lengths = {
    trust    = { for name, text in local.trust_policies : name => length(replace(text, "/\\s/", "")) }
    ceiling  = { for name, text in local.ceilings : name => length(replace(text, "/\\s/", "")) }
    boundary = { for name, text in local.boundaries : name => length(replace(text, "/\\s/", "")) }
    minter   = length(replace(local.minter_policy, "/\\s/", ""))
    revoker  = length(replace(local.revoker_policy, "/\\s/", ""))
    doctor   = length(replace(local.doctor_policy, "/\\s/", ""))
    key      = { for name, text in local.key_policies : name => length(replace(text, "/\\s/", "")) }
    pattern  = { for name, text in local.event_patterns : name => length(text) }
  }
  managed_policy_quota = 6144
  key_policy_quota     = 32768
  pattern_quota        = 2048
}

output "roles" {
  description = "Every phase role, as production-execute: its ARN, name, path and phase, and the names of its policies. Deciding has none."
  value = { for name, role in local.roles : name => {
    arn           = role.arn
    name          = role.name
    path          = role.path
    phase         = role.phase
    ceiling_name  = local.ceiling_names[name]
    boundary_name = local.boundary_names[name]
    boundary_arn  = local.boundary_arns[name]
  } }
}

output "trust_policies" {
  description = "Trust policy of each phase role, JSON."
  value       = local.trust_policies

  precondition {
    condition = alltrue([for length in values(local.lengths.trust) : length <= var.trust_policy_quota])
    error_message = format(
      "A trust policy has %d characters and your quota is %d: shorten the external id or the ARN of the minter, watch fewer regions, or have the quota raised (4096 at most) and set trust_policy_quota.",
      max(values(local.lengths.trust)...), var.trust_policy_quota
    )
  }
}

output "identity_providers" {
  description = "OIDC providers whose tokens the execute roles trust, by host and path: URL, audiences and ARN; empty without a web identity."
  value       = local.identity_providers
}

output "ceilings" {
  description = "What each phase role may do at most, JSON; a role for which the catalog has nothing is missing."
  value       = local.ceilings

  precondition {
    condition = alltrue([for length in values(local.lengths.ceiling) : length <= local.managed_policy_quota])
    error_message = format(
      "A ceiling has %d characters and a managed policy holds %d: move action types into another environment with roles of its own (in this account with the same web_identity), and print the ceilings again.",
      max(concat([0], values(local.lengths.ceiling))...), local.managed_policy_quota
    )
  }
}

output "boundaries" {
  description = "Permission boundary of each phase role, JSON."
  value       = local.boundaries

  precondition {
    condition = alltrue([for length in values(local.lengths.boundary) : length <= local.managed_policy_quota])
    error_message = format(
      "A boundary has %d characters and a managed policy holds %d; a role has one boundary, so it cannot be split: move action types into another environment with roles of its own (in this account with the same web_identity), or name fewer protected ARNs, and print the ceilings again.",
      max(values(local.lengths.boundary)...), local.managed_policy_quota
    )
  }
}

output "minter_policy" {
  description = "What the broker's minting identity may do, JSON."
  value       = local.minter_policy

  precondition {
    condition = local.lengths.minter <= local.managed_policy_quota
    error_message = format(
      "The minter's policy has %d characters and a managed policy holds %d: let another broker, with a minter of its own, serve some of the accounts.",
      local.lengths.minter, local.managed_policy_quota
    )
  }
}

output "revoker_policy" {
  description = "What the broker's revoking identity may do, JSON."
  value       = local.revoker_policy

  precondition {
    condition = local.lengths.revoker <= local.managed_policy_quota
    error_message = format(
      "The revoker's policy has %d characters and a managed policy holds %d: shorten the paths of the phase roles.",
      local.lengths.revoker, local.managed_policy_quota
    )
  }
}

output "doctor_policy" {
  description = "What the identity that reads for `phasebroker doctor` may do, JSON."
  value       = local.doctor_policy

  precondition {
    condition = local.lengths.doctor <= local.managed_policy_quota
    error_message = format(
      "The doctor's policy has %d characters and a managed policy holds %d: shorten the paths of the phase roles.",
      local.lengths.doctor, local.managed_policy_quota
    )
  }
}

output "decide_role" {
  description = "Always null: a run that decides has no session at AWS."
  value       = null
}

output "key_policies" {
  description = "Policy of a signing key, JSON, by key spec; empty without administrators."
  value       = local.key_policies

  precondition {
    condition = alltrue([for length in values(local.lengths.key) : length <= local.key_policy_quota])
    error_message = format(
      "The policy of a key has %d characters and KMS takes %d: name groups of people by one role instead of many.",
      max(concat([0], values(local.lengths.key))...), local.key_policy_quota
    )
  }
}

output "event_patterns" {
  description = "EventBridge patterns of what somebody has to hear of, JSON, by name."
  value       = local.event_patterns

  precondition {
    condition = alltrue([for length in values(local.lengths.pattern) : length <= local.pattern_quota])
    error_message = format(
      "An event pattern has %d characters and EventBridge takes %d: shorten the names or paths of the roles.",
      max(values(local.lengths.pattern)...), local.pattern_quota
    )
  }
}

output "iam_events_region" {
  description = "The region in which EventBridge hears of IAM."
  value       = local.iam_events_region
}

output "watched_regions" {
  description = "Where sessions may be asked for, and where rules have to watch: the regions of the environments, the one of IAM's events, and further ones."
  value       = local.watched_regions
}

output "data_events" {
  description = "Beginnings of the ARNs whose data events a trail has to record, by resource type of CloudTrail."
  value       = local.data_events
}

output "max_session_seconds" {
  description = "Longest session that the phase roles give."
  value       = var.max_session_seconds
}

output "lengths" {
  description = "Characters of every document, as its quota counts them."
  value       = local.lengths
}
