# What is refused, and by which check. One thing is wrong in each run; documents.tftest.hcl has the same input without it.
variables {
  minter_arn  = "arn:aws:iam::111122223333:role/phasebroker-minter"
  revoker_arn = "arn:aws:iam::111122223333:role/phasebroker-revoker"

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
        execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute" }
      }
    }
  }
}

run "nothing_is_wrong_with_the_rest" {
  command = plan

  assert {
    condition     = length(output.trust_policies) == 2
    error_message = "two roles"
  }
}

run "ceilings_of_another_version" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_environment_under_another_name" {
  command = plan
  variables {
    environments = {
      staging = {
        version        = 1
        catalog_digest = "digest"
        environment    = "production"
        partition      = "aws"
        account        = "111122223333"
        region         = "eu-central-1"
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_account_without_twelve_digits" {
  command = plan
  variables {
    environments = {
      production = {
        version        = 1
        catalog_digest = "digest"
        environment    = "production"
        partition      = "aws"
        account        = "11112222333"
        region         = "eu-central-1"
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_unknown_partition" {
  command = plan
  variables {
    environments = {
      production = {
        version        = 1
        catalog_digest = "digest"
        environment    = "production"
        partition      = "aws-moon"
        account        = "111122223333"
        region         = "eu-central-1"
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_region_with_a_wildcard" {
  command = plan
  variables {
    environments = {
      production = {
        version        = 1
        catalog_digest = "digest"
        environment    = "production"
        partition      = "aws"
        account        = "111122223333"
        region         = "eu-*"
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_external_id_of_other_characters" {
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
        external_id    = "two words"
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "no_execute_role" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          decide  = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_ninth_shard" {
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
        external_id    = null
        protected      = []
        roles = {
          observe     = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute     = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
          "execute-8" = { arn = "arn:aws:iam::111122223333:role/execute-8", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_observe_role_of_another_phase" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "execute", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_role_of_another_account" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::444455556666:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_role_name_with_a_wildcard" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/exec*", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "one_role_for_two_phases" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/OBSERVE", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_protected_pattern" {
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
        external_id    = null
        protected      = ["arn:aws:iam::111122223333:role/*"]
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_ceiling_that_is_no_policy" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = "{}" }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_ceiling_that_denies" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = jsonencode({ Statement = [{ Effect = "Deny", Action = ["ec2:RebootInstances"], Resource = ["arn:aws:ec2:eu-central-1:111122223333:instance/i-*"] }] }) }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_ceiling_with_not_action" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = jsonencode({ Statement = [{ Effect = "Allow", Action = ["ec2:RebootInstances"], Resource = ["arn:aws:ec2:eu-central-1:111122223333:instance/i-*"], NotAction = ["iam:*"] }] }) }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_ceiling_with_a_wildcard_action" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = jsonencode({ Statement = [{ Effect = "Allow", Action = ["ec2:*"], Resource = ["arn:aws:ec2:eu-central-1:111122223333:instance/i-*"] }] }) }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_execute_ceiling_over_all_resources" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = jsonencode({ Statement = [{ Effect = "Allow", Action = ["ec2:RebootInstances"], Resource = ["*"] }] }) }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_account_as_minter" {
  command = plan
  variables {
    minter_arn = "arn:aws:iam::111122223333:root"
  }

  expect_failures = [var.minter_arn]
}

run "any_minter" {
  command = plan
  variables {
    minter_arn = "*"
  }

  expect_failures = [var.minter_arn]
}

run "a_user_as_revoker" {
  command = plan
  variables {
    revoker_arn = "arn:aws:iam::111122223333:user/ann"
  }

  expect_failures = [var.revoker_arn]
}

run "one_role_for_minting_and_revoking" {
  command = plan
  variables {
    revoker_arn = "arn:aws:iam::111122223333:role/phasebroker-minter"
  }

  expect_failures = [var.revoker_arn]
}

run "a_revoker_of_another_account" {
  command = plan
  variables {
    revoker_arn = "arn:aws:iam::444455556666:role/phasebroker-revoker"
  }

  expect_failures = [var.revoker_arn]
}

run "a_foreign_minter_without_its_unique_id" {
  command = plan
  variables {
    minter_arn = "arn:aws:iam::444455556666:role/phasebroker-minter"
  }

  expect_failures = [var.minter_unique_id]
}

run "a_unique_id_of_a_user" {
  command = plan
  variables {
    minter_unique_id = "AIDAEXAMPLEEXAMPLE12"
  }

  expect_failures = [var.minter_unique_id]
}

run "a_further_role_with_a_wildcard" {
  command = plan
  variables {
    minter_further_roles = ["arn:aws:iam::444455556666:role/*"]
  }

  expect_failures = [var.minter_further_roles]
}

run "a_prefix_that_would_cover_everything" {
  command = plan
  variables {
    name_prefix = "p-"
  }

  expect_failures = [var.name_prefix]
}

run "a_prefix_without_its_hyphen" {
  command = plan
  variables {
    name_prefix = "phasebroker"
  }

  expect_failures = [var.name_prefix]
}

run "a_path_that_is_none" {
  command = plan
  variables {
    path = "phasebroker"
  }

  expect_failures = [var.path]
}

run "a_longer_session" {
  command = plan
  variables {
    max_session_seconds = 43200
  }

  expect_failures = [var.max_session_seconds]
}

run "every_region_of_europe" {
  command = plan
  variables {
    watched_regions = ["eu-*"]
  }

  expect_failures = [var.watched_regions]
}

run "a_quota_that_aws_does_not_give" {
  command = plan
  variables {
    trust_policy_quota = 8192
  }

  expect_failures = [var.trust_policy_quota]
}

run "an_account_that_administers_keys" {
  command = plan
  variables {
    key_administrators = ["arn:aws:iam::111122223333:root"]
  }

  expect_failures = [var.key_administrators]
}

run "a_broker_that_administers_its_keys" {
  command = plan
  variables {
    key_administrators = ["arn:aws:iam::111122223333:role/phasebroker-minter"]
  }

  expect_failures = [var.key_administrators]
}

run "any_verifier" {
  command = plan
  variables {
    key_verifiers = ["arn:aws:iam::111122223333:role/*"]
  }

  expect_failures = [var.key_verifiers]
}

run "a_trust_policy_over_the_quota" {
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
        external_id    = format("%01100d", 0)
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = null }
        }
      }
    }
  }

  expect_failures = [output.trust_policies]
}

run "a_ceiling_over_the_quota" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = jsonencode({ Statement = [for at in range(80) : { Effect = "Allow", Action = ["ec2:RebootInstances"], Resource = ["arn:aws:ec2:eu-central-1:111122223333:instance/i-${at}*"] }] }) }
        }
      }
    }
  }

  expect_failures = [output.ceilings, output.boundaries]
}

run "a_ceiling_that_fits_and_a_boundary_that_does_not" {
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
        external_id    = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = jsonencode({ Statement = [for at in range(44) : { Effect = "Allow", Action = ["ec2:RebootInstances"], Resource = ["arn:aws:ec2:eu-central-1:111122223333:instance/i-${at}*"] }] }) }
        }
      }
    }
  }

  expect_failures = [output.boundaries]
}

run "more_roles_than_a_minter_policy_holds" {
  command = plan
  variables {
    minter_further_roles = [for at in range(80) : "arn:aws:iam::444455556666:role/execute-${at}"]
  }

  expect_failures = [output.minter_policy]
}

run "nothing_is_wrong_with_a_web_identity" {
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
        external_id    = null
        web_identity   = { issuer = "https://approvers.example.com/oidc", audience = "sts.amazonaws.com" }
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-0\"],\"Condition\":{\"StringEquals\":{\"aws:PrincipalTag/action\":[\"reboot\"]}}}]}" }
        }
      }
    }
  }

  assert {
    condition     = length(output.identity_providers) == 1
    error_message = "one issuer"
  }
}

run "a_web_identity_in_ceilings_that_know_none" {
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
        external_id    = null
        web_identity   = { issuer = "https://approvers.example.com/oidc", audience = "sts.amazonaws.com" }
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-0\"],\"Condition\":{\"StringEquals\":{\"aws:PrincipalTag/action\":[\"reboot\"]}}}]}" }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "ceilings_by_tag_without_a_web_identity" {
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
        external_id    = null
        web_identity   = null
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-0\"],\"Condition\":{\"StringEquals\":{\"aws:PrincipalTag/action\":[\"reboot\"]}}}]}" }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_issuer_over_http" {
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
        external_id    = null
        web_identity   = { issuer = "http://approvers.example.com/oidc", audience = "sts.amazonaws.com" }
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-0\"],\"Condition\":{\"StringEquals\":{\"aws:PrincipalTag/action\":[\"reboot\"]}}}]}" }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_issuer_with_a_port" {
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
        external_id    = null
        web_identity   = { issuer = "https://approvers.example.com:8443", audience = "sts.amazonaws.com" }
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-0\"],\"Condition\":{\"StringEquals\":{\"aws:PrincipalTag/action\":[\"reboot\"]}}}]}" }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "an_audience_with_a_wildcard" {
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
        external_id    = null
        web_identity   = { issuer = "https://approvers.example.com/oidc", audience = "*" }
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-0\"],\"Condition\":{\"StringEquals\":{\"aws:PrincipalTag/action\":[\"reboot\"]}}}]}" }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "a_ceiling_without_its_action_under_a_web_identity" {
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
        external_id    = null
        web_identity   = { issuer = "https://approvers.example.com/oidc", audience = "sts.amazonaws.com" }
        protected      = []
        roles = {
          observe = { arn = "arn:aws:iam::111122223333:role/observe", phase = "observe", ceiling = null }
          execute = { arn = "arn:aws:iam::111122223333:role/execute", phase = "execute", ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:RebootInstances\"],\"Resource\":[\"arn:aws:ec2:eu-central-1:111122223333:instance/i-*\"]}]}" }
        }
      }
    }
  }

  expect_failures = [var.environments]
}

run "one_of_two_environments_of_an_account_without_the_web_identity" {
  command = plan
  variables {
    environments = { for name in ["production", "spare"] : name => {
      version        = name == "production" ? 2 : 1
      catalog_digest = "digest"
      environment    = name
      partition      = "aws"
      account        = "111122223333"
      region         = "eu-central-1"
      web_identity   = name == "production" ? { issuer = "https://approvers.example.com/oidc", audience = "sts.amazonaws.com" } : null
      roles = {
        observe = { arn = "arn:aws:iam::111122223333:role/${name}-observe", phase = "observe" }
        execute = { arn = "arn:aws:iam::111122223333:role/${name}-execute", phase = "execute" }
      }
    } }
  }

  expect_failures = [var.environments]
}

run "a_canary_that_may_do_more_than_its_one_call" {
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
            ceiling = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"ec2:DescribeRegions\",\"ec2:DescribeInstances\"],\"Resource\":[\"*\"]}]}"
          }
        }
      }
    }
  }

  expect_failures = [var.environments]
}
