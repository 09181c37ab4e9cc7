# What the documents say, for one environment with all three roles. Offline: `terraform test` in modules/policies.
variables {
  minter_arn         = "arn:aws:iam::111122223333:role/phasebroker-minter"
  revoker_arn        = "arn:aws:iam::111122223333:role/phasebroker-revoker"
  key_administrators = ["arn:aws:iam::111122223333:role/platform"]
  key_verifiers      = ["arn:aws:iam::111122223333:role/audit"]

  environments = {
    production = {
      version        = 1
      catalog_digest = "digest"
      environment    = "production"
      partition      = "aws"
      account        = "111122223333"
      region         = "eu-central-1"
      external_id    = "phasebroker-production"
      protected      = ["arn:aws:iam::111122223333:role/break-glass", "arn:aws:iam::111122223333:role/phasebroker-minter"]
      roles = {
        observe = {
          arn     = "arn:aws:iam::111122223333:role/phasebroker-observe"
          phase   = "observe"
          ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:DescribeInstances\"],\"Resource\":[\"*\"]}]}"
        }
        execute = {
          arn     = "arn:aws:iam::111122223333:role/team/phasebroker-execute"
          phase   = "execute"
          ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-*\"]},{\"Effect\":\"Allow\",\"Action\":[\"s3:DeleteObject\"],\"Resource\":[\"arn:aws:s3:::orders/tmp-*\"]}]}"
        }
        trust = {
          arn     = "arn:aws:iam::111122223333:role/phasebroker-trust"
          phase   = "execute"
          ceiling = null
        }
      }
    }
  }
}

run "roles_are_those_of_the_catalog_and_deciding_has_none" {
  command = plan

  assert {
    condition     = output.decide_role == null && length(output.roles) == 3
    error_message = "deciding has no role"
  }
  assert {
    condition     = output.roles["production-execute"].name == "phasebroker-execute" && output.roles["production-execute"].path == "/team/"
    error_message = "name and path come from the ARN of the catalog"
  }
  assert {
    condition     = output.roles["production-observe"].path == "/" && output.max_session_seconds == 3600
    error_message = "the root path, and the shortest session that AWS allows"
  }
}

run "trust_asks_for_the_minter_the_tags_the_name_and_the_external_id" {
  command = plan

  assert {
    condition = alltrue([for policy in values(output.trust_policies) : alltrue([
      for statement in jsondecode(policy).Statement : statement.Principal == { AWS = var.minter_arn }
    ])])
    error_message = "the minter alone"
  }
  assert {
    condition = jsondecode(output.trust_policies["production-execute"]).Statement[0].Condition.StringEquals == {
      "aws:RequestTag/phase" = "execute", "aws:RequestedRegion" = ["eu-central-1", "us-east-1"], "sts:ExternalId" = "phasebroker-production"
    }
    error_message = "its own phase, the watched regions and the external id"
  }
  assert {
    condition     = jsondecode(output.trust_policies["production-observe"]).Statement[0].Condition.StringLike["sts:RoleSessionName"] == "observe-??????????????????????????"
    error_message = "the session is named after phase and lease"
  }
  assert {
    condition = alltrue([for policy in values(output.trust_policies) :
      contains(keys(jsondecode(policy).Statement[0].Condition.StringLike), "sts:SourceIdentity") &&
      contains(keys(jsondecode(policy).Statement[0].Condition.StringLike), "aws:RequestTag/lease")
    ])
    error_message = "source identity and lease are demanded, not only allowed"
  }
}

run "a_boundary_allows_the_ceiling_and_denies_the_rest" {
  command = plan

  assert {
    condition = alltrue([for name in ["production-observe", "production-execute"] :
      [for one in jsondecode(output.boundaries[name]).Statement : one if one.Effect == "Allow"] == jsondecode(output.ceilings[name]).Statement
    ])
    error_message = "what a boundary allows is the ceiling"
  }
  assert {
    condition     = [for one in jsondecode(output.boundaries["production-trust"]).Statement : [one.Effect, one.Action]] == [["Deny", "*"]] && !contains(keys(output.ceilings), "production-trust")
    error_message = "a role of which the catalog says nothing can do nothing"
  }
  assert {
    condition = alltrue([for sid in ["Outside", "Always", "NoLease", "OtherPhase", "Ours", "Tagged"] :
      length([for one in jsondecode(output.boundaries["production-execute"]).Statement : one if try(one.Sid, "") == sid]) == 1
    ])
    error_message = "every Deny is there once"
  }
  assert {
    condition = contains(flatten([for one in jsondecode(output.boundaries["production-execute"]).Statement : one.Resource if try(one.Sid, "") == "Ours"]), "arn:aws:iam::111122223333:role/break-glass") && contains(
      flatten([for one in jsondecode(output.boundaries["production-execute"]).Statement : one.Resource if try(one.Sid, "") == "Ours"]), "arn:aws:iam::111122223333:role/team/phasebroker-execute"
    )
    error_message = "what is protected, and a phase role under another path, is ours"
  }
}

run "minter_and_revoker_cannot_do_each_others_part" {
  command = plan

  assert {
    condition     = length(setintersection(jsondecode(output.minter_policy).Statement[0].Action, flatten([for one in jsondecode(output.revoker_policy).Statement : one.Action if one.Effect == "Allow"]))) == 0
    error_message = "no action is allowed to both"
  }
  assert {
    condition     = jsonencode(jsondecode(output.revoker_policy).Statement[1].Condition.StringEquals["iam:PermissionsBoundary"]) == jsonencode(sort([for role in values(output.roles) : role.boundary_arn]))
    error_message = "the revoker writes only where a boundary is"
  }
  assert {
    condition     = alltrue([for policy in values(output.key_policies) : one([for one in jsondecode(policy).Statement : one.Principal.AWS if one.Effect == "Allow" && one.Action == "kms:Sign"]) == var.minter_arn])
    error_message = "the minter alone signs"
  }
}

run "the_doctor_reads_roles_and_trails_and_simulates_the_brokers_own" {
  command = plan

  assert {
    condition     = one([for one in jsondecode(output.doctor_policy).Statement : one.Resource if one.Sid == "Simulate"]) == [var.minter_arn, var.revoker_arn]
    error_message = "minter and revoker, and nobody else"
  }
  assert {
    condition     = length(setsubtract(flatten([for one in jsondecode(output.doctor_policy).Statement : one.Action if one.Effect == "Allow"]), one([for one in jsondecode(output.doctor_policy).Statement : one.NotAction if one.Sid == "NothingElse"]))) == 0
    error_message = "nothing beside it, and nothing of it denied"
  }
}

run "data_events_are_recorded_where_execute_can_touch_data" {
  command = plan

  assert {
    condition     = jsonencode(output.data_events) == jsonencode({ "AWS::S3::Object" = ["arn:aws:s3:::orders/tmp-"] })
    error_message = "the objects that a session may delete, and nothing else"
  }
}

run "a_foreign_minter_is_known_by_its_unique_id" {
  command = plan
  variables {
    minter_arn       = "arn:aws:iam::444455556666:role/phasebroker-minter"
    minter_unique_id = "AROAEXAMPLEEXAMPLE12"
  }

  assert {
    condition     = strcontains(output.event_patterns["assumed-by-others"], "AROAEXAMPLEEXAMPLE12:")
    error_message = "a trail of this account sees no ARN of a caller from elsewhere"
  }
}

run "a_shard_of_the_execute_role_is_an_execute_role" {
  command = plan
  variables {
    environments = {
      production = {
        version        = 1
        catalog_digest = "digest"
        environment    = "production"
        partition      = "aws"
        account        = "111122223333"
        region         = "eu-central-1"
        roles = merge({
          observe                           = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe" }
          }, { for shard, name in { execute = "execute", "execute-1" = "execute-1" } : shard => {
            arn                             = "arn:aws:iam::111122223333:role/${name}"
            phase                           = "execute"
            ceiling                         = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-*\"]}]}"
        } })
      }
    }
  }

  assert {
    condition     = output.boundaries["production-execute-1"] == output.boundaries["production-execute"] && output.trust_policies["production-execute-1"] == output.trust_policies["production-execute"]
    error_message = "shards differ in nothing but their name"
  }
  assert {
    condition     = strcontains(output.revoker_policy, "role/execute-1") && strcontains(output.minter_policy, "role/execute-1")
    error_message = "minter and revoker know every shard"
  }
}

run "with_a_web_identity_work_trusts_its_tokens_alone_and_observing_the_minter" {
  command = plan
  variables {
    environments = {
      production = {
        version        = 2
        catalog_digest = "digest"
        environment    = "production"
        partition      = "aws"
        account        = "111122223333"
        region         = "eu-central-1"
        web_identity   = { issuer = "https://approvers.example.com/oidc", audience = "sts.amazonaws.com" }
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/phasebroker-observe", phase = "observe" }
          execute = { arn = "arn:aws:iam::111122223333:role/phasebroker-execute", phase = "execute" }
        }
      }
    }
  }

  assert {
    condition = alltrue([for statement in jsondecode(output.trust_policies["production-execute"]).Statement :
      statement.Principal == { Federated = "arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc" }
    ])
    error_message = "the provider alone, and no role"
  }
  assert {
    condition = alltrue([for statement in jsondecode(output.trust_policies["production-observe"]).Statement :
      statement.Principal == { AWS = var.minter_arn }
    ])
    error_message = "observing keeps the minter"
  }
  assert {
    condition     = jsondecode(output.minter_policy).Statement[0].Resource == ["arn:aws:iam::111122223333:role/phasebroker-observe"]
    error_message = "the minter may ask for nothing but observing"
  }
  assert {
    condition     = strcontains(output.event_patterns["assumed-without-token"], "phasebroker-execute") && !strcontains(output.event_patterns["assumed-by-others"], "phasebroker-execute")
    error_message = "somebody hears of any other way into the role, and of no token"
  }
}

run "what_is_protected_is_denied_though_its_arn_begins_with_that_of_an_identity_provider" {
  command = plan
  variables {
    environments = {
      production = {
        version        = 2
        catalog_digest = "digest"
        environment    = "production"
        partition      = "aws"
        account        = "111122223333"
        region         = "eu-central-1"
        web_identity   = { issuer = "https://approvers.example.com/oidc", audience = "sts.amazonaws.com" }
        protected = [
          "arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc",
          "arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc-people",
          "arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc/other",
          "arn:aws:iam::111122223333:role/phasebroker-minter",
        ]
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/phasebroker-observe", phase = "observe" }
          execute = {
            arn     = "arn:aws:iam::111122223333:role/phasebroker-execute"
            phase   = "execute"
            ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/$${aws:PrincipalTag/p_instance}\"],\"Condition\":{\"StringEquals\":{\"aws:PrincipalTag/action\":[\"reboot-instance\"]}}}]}"
          }
        }
      }
    }
  }

  assert {
    condition = alltrue([for provider in ["oidc", "oidc-people", "oidc/other"] : length([
      for arn in flatten([for one in jsondecode(output.boundaries["production-execute"]).Statement : one.Resource if try(one.Sid, "") == "Ours"]) :
      arn if arn == "arn:aws:iam::111122223333:oidc-provider/approvers.example.com/${provider}"
    ]) == 1])
    error_message = "each of them once, by its own ARN"
  }
  assert {
    condition     = !strcontains(output.boundaries["production-execute"], "role/phasebroker-minter")
    error_message = "what begins with the prefix is named once, by its pattern"
  }
}

run "environments_of_one_account_with_the_same_web_identity" {
  command = plan
  variables {
    environments = { for name in ["production", "spare"] : name => {
      version        = 2
      catalog_digest = "digest"
      environment    = name
      partition      = "aws"
      account        = "111122223333"
      region         = "eu-central-1"
      web_identity   = { issuer = "https://approvers.example.com/oidc", audience = "sts.amazonaws.com" }
      roles = {
        observe = { arn = "arn:aws:iam::111122223333:role/${name}-observe", phase = "observe" }
        execute = { arn = "arn:aws:iam::111122223333:role/${name}-execute", phase = "execute" }
      }
    } }
  }

  assert {
    condition     = jsondecode(output.minter_policy).Statement[0].Resource == ["arn:aws:iam::111122223333:role/production-observe", "arn:aws:iam::111122223333:role/spare-observe"]
    error_message = "the minter may ask for nothing but observing in the whole account"
  }
}

run "the_statement_of_a_canary_needs_no_condition" {
  command = plan
  variables {
    environments = {
      production = {
        version        = 1
        catalog_digest = "digest"
        environment    = "production"
        partition      = "aws"
        account        = "111122223333"
        region         = "eu-central-1"
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe" }
          execute = {
            arn     = "arn:aws:iam::111122223333:role/execute"
            phase   = "execute"
            ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:DescribeRegions\"],\"Resource\":[\"*\"]}]}"
          }
        }
      }
    }
  }

  assert {
    condition     = length(output.ceilings) == 1
    error_message = "it names the regions of AWS, and nothing of an account"
  }
}

run "a_further_region_is_watched_and_a_session_may_be_asked_for_there" {
  command = plan
  variables {
    watched_regions = ["eu-west-1"]
  }

  assert {
    condition     = jsonencode(output.watched_regions) == jsonencode(["eu-central-1", "eu-west-1", "us-east-1"])
    error_message = "that of the environment, the further one, and that of IAM's events"
  }
  assert {
    condition = alltrue([for policy in values(output.trust_policies) :
      jsonencode(jsondecode(policy).Statement[0].Condition.StringEquals["aws:RequestedRegion"]) == jsonencode(output.watched_regions)
    ])
    error_message = "no role is assumed where nobody watches"
  }
}
