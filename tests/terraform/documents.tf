# The module for the two environments of the shipped catalog: `production` in the broker's account, `staging` in another.
variable "ceilings" {
  type = string
}

# The same catalog, with a web identity in production.
variable "by_tag" {
  type = string
}

locals {
  environments = jsondecode(file(var.ceilings)).environments
}

module "production" {
  source = "./modules/policies"

  environments         = { production = local.environments.production }
  minter_arn           = "arn:aws:iam::111122223333:role/phasebroker-minter"
  revoker_arn          = "arn:aws:iam::111122223333:role/phasebroker-revoker"
  minter_further_roles = [for role in values(local.environments.staging.roles) : role.arn]
  key_administrators   = ["arn:aws:iam::111122223333:role/platform"]
  key_verifiers        = ["arn:aws:iam::111122223333:role/audit"]
  watched_regions      = ["eu-west-1"]
}

module "staging" {
  source = "./modules/policies"

  environments     = { staging = local.environments.staging }
  minter_arn       = "arn:aws:iam::111122223333:role/phasebroker-minter"
  minter_unique_id = "AROAEXAMPLEEXAMPLE12"
  revoker_arn      = "arn:aws:iam::444455556666:role/phasebroker-revoker"
}

module "by_tag" {
  source = "./modules/policies"

  environments = { production = jsondecode(file(var.by_tag)).environments.production }
  minter_arn   = "arn:aws:iam::111122223333:role/phasebroker-minter"
  revoker_arn  = "arn:aws:iam::111122223333:role/phasebroker-revoker"
}

module "keys" {
  source = "./modules/key-pattern"

  arns = ["arn:aws:kms:eu-central-1:111122223333:key/of-the-trail", "arn:aws:kms:eu-central-1:111122223333:key/of-the-alarms"]
}

output "documents" {
  value = {
    production = module.production
    staging    = module.staging
    by_tag     = module.by_tag
    keys       = { event_patterns = { key-changed = module.keys.pattern } }
  }
}
