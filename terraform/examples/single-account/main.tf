# One account: the broker works in the account that it runs in. `ceilings.json` is what
# `phasebroker aws ceiling --config config/phasebroker.toml --out ceilings.json` writes of the shipped catalog.
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

variable "administrator" {
  description = "ARN of the role that applies this."
  type        = string
}

variable "auditors" {
  description = "ARNs of the roles that may read the trail."
  type        = list(string)
  default     = []
}

locals {
  ceilings = jsondecode(file("${path.module}/ceilings.json"))
}

provider "aws" {
  region              = local.ceilings.environments.production.region
  allowed_account_ids = [local.ceilings.environments.production.account]
}

module "phasebroker" {
  source = "../../modules/aws"

  environments       = { production = local.ceilings.environments.production }
  broker_principals  = [var.broker_principal]
  key_administrators = [var.administrator]
  auditors           = var.auditors
}

output "minter_arn" {
  description = "The role of `mint_profile` in the broker's AWS configuration."
  value       = module.phasebroker.minter_arn
}

output "revoker_arn" {
  description = "The role of `revoke_profile`."
  value       = module.phasebroker.revoker_arn
}

output "alarm_topics" {
  description = "Subscribe to these: somebody has to hear of it."
  value       = module.phasebroker.alarm_topics
}
