# Two accounts of an organization: the broker runs in the account of `production` and also works in that of `staging`.
# Each account has its own state in practice; here one apply shows how they fit together.
terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
  }
}

variable "broker_principal" {
  description = "ARN of the role that the broker's host runs as."
  type        = string
}

variable "administrators" {
  description = "ARN of the role that applies this, by environment."
  type        = object({ production = string, staging = string })
}

locals {
  ceilings   = jsondecode(file("${path.module}/../single-account/ceilings.json")).environments
  arn_of_iam = "arn:${local.ceilings.staging.partition}:iam::${local.ceilings.staging.account}"
}

provider "aws" {
  region              = local.ceilings.production.region
  allowed_account_ids = [local.ceilings.production.account]
}

provider "aws" {
  alias               = "staging"
  region              = local.ceilings.staging.region
  allowed_account_ids = [local.ceilings.staging.account]

  assume_role {
    role_arn = var.administrators.staging
  }
}

module "phasebroker" {
  source = "../../modules/aws"

  environments      = { production = local.ceilings.production }
  broker_principals = [var.broker_principal]
  # With a web identity, work is done with a token of the approvers' side: the minter observes, and assumes nothing else.
  further_roles      = [for kind, role in local.ceilings.staging.roles : role.arn if kind == "observe" || try(local.ceilings.staging.web_identity, null) == null]
  further_revokers   = ["${local.arn_of_iam}:role/phasebroker-revoker"]
  key_administrators = [var.administrators.production]
}

module "staging" {
  source    = "../../modules/target-account"
  providers = { aws = aws.staging }

  environments       = { staging = local.ceilings.staging }
  minter_arn         = module.phasebroker.minter_arn
  minter_unique_id   = module.phasebroker.minter_unique_id
  broker_revoker_arn = module.phasebroker.revoker_arn
  doctor_principals  = [var.broker_principal]
  key_administrators = [var.administrators.staging]
}

output "broker" {
  description = "Into phasebroker.toml, and into the shared AWS configuration beside it."
  value       = [module.staging.configuration, module.staging.profile]
}

output "alarm_topics" {
  description = "Subscribe to these: somebody has to hear of it."
  value       = { production = module.phasebroker.alarm_topics, staging = module.staging.alarm_topics }
}
