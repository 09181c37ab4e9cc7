variable "environments" {
  description = "Environments of one account, as `phasebroker aws ceiling --json` prints them: jsondecode(file(\"ceilings.json\")).environments, or those of it that belong to this account."
  type = map(object({
    version        = number
    catalog_digest = string
    environment    = string
    partition      = string
    account        = string
    region         = string
    external_id    = optional(string)
    web_identity = optional(object({
      issuer   = string
      audience = string
    }))
    protected = optional(list(string), [])
    roles = map(object({
      arn     = string
      phase   = string
      ceiling = optional(string)
    }))
  }))

  validation {
    condition     = alltrue([for one in values(var.environments) : one.version == (one.web_identity == null ? 1 : 2)])
    error_message = "This module reads version 1 of the ceilings, and 2 with a web identity: use the module that came with the phasebroker that printed them."
  }
  validation {
    condition = alltrue([for one in values(var.environments) : one.web_identity == null || try(
      can(regex("^https://[a-z0-9.-]+(/[A-Za-z0-9._-]+)*$", one.web_identity.issuer)) && length(one.web_identity.issuer) <= 255, false
    )])
    error_message = "The issuer of a web identity is an https URL without port, query and closing slash."
  }
  validation {
    condition     = alltrue([for one in values(var.environments) : one.web_identity == null || can(regex("^[A-Za-z0-9._:/-]{1,255}$", one.web_identity.audience))])
    error_message = "The audience of a web identity is one text without wildcards. Take it as `phasebroker aws ceiling` printed it."
  }
  validation {
    condition = alltrue(flatten([for one in values(var.environments) : one.web_identity == null ? [] : [for name, role in one.roles : role.ceiling == null || name == "observe" || try(alltrue([
      for statement in jsondecode(role.ceiling).Statement : length(statement.Condition.StringEquals["aws:PrincipalTag/action"]) == 1
    ]), false)]]))
    error_message = "With a web identity every statement of a ceiling names its action type by aws:PrincipalTag/action: the caller chooses the session policy, and the ceiling alone holds the session. Take it as `phasebroker aws ceiling` printed it."
  }
  validation {
    condition     = length(var.environments) > 0 && alltrue([for name, one in var.environments : name == one.environment && can(regex("^[a-z0-9][a-z0-9-]{0,22}$", name))])
    error_message = "Name at least one environment, each by its own name: at most 23 characters of a-z, 0-9 and -."
  }
  validation {
    condition     = length(distinct([for one in values(var.environments) : "${one.partition}/${one.account}"])) == 1
    error_message = "All environments given here belong to one account: use this module once for each account."
  }
  validation {
    condition     = length(distinct([for one in values(var.environments) : one.web_identity == null])) == 1
    error_message = "Give every environment of one account the same web_identity, or none: through one without, a broker host that is taken over could still mint in this account. Move it into an account of its own otherwise."
  }
  validation {
    condition     = alltrue([for one in values(var.environments) : can(regex("^[0-9]{12}$", one.account))])
    error_message = "An account has twelve digits."
  }
  validation {
    condition     = alltrue([for one in values(var.environments) : contains(["aws", "aws-cn", "aws-us-gov", "aws-eusc"], one.partition)])
    error_message = "The partition is aws, aws-cn, aws-us-gov or aws-eusc."
  }
  validation {
    condition     = alltrue([for one in values(var.environments) : can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", one.region))])
    error_message = "A region is written such as eu-central-1."
  }
  validation {
    condition     = alltrue([for one in values(var.environments) : one.external_id == null || try(length(one.external_id) >= 2 && length(one.external_id) <= 1224 && can(regex("^[A-Za-z0-9+=,.@:/_-]+$", one.external_id)), false)])
    error_message = "An external id has 2 to 1224 characters of A-Z a-z 0-9 + = , . @ : / - _"
  }
  validation {
    condition = alltrue([for one in values(var.environments) :
      alltrue([for role in ["observe", "execute"] : contains(keys(one.roles), role)]) &&
      alltrue([for role in keys(one.roles) : can(regex("^(observe|execute|execute-[1-7]|trust)$", role))])
    ])
    error_message = "The roles are observe, execute and its shards execute-1 to execute-7, and, where the catalog has actions of class trust, trust. Deciding has no role at AWS."
  }
  validation {
    condition = alltrue(flatten([for one in values(var.environments) : [for name, role in one.roles :
      role.phase == (name == "observe" ? "observe" : "execute")
    ]]))
    error_message = "The phase of the role observe is observe; that of execute and trust is execute."
  }
  validation {
    condition = alltrue(flatten([for one in values(var.environments) : [for role in values(one.roles) :
      can(regex("^arn:${one.partition}:iam::${one.account}:role/([!-~]+/)?[A-Za-z0-9+=,.@_-]{1,64}$", role.arn)) && !can(regex("[*?]", role.arn))
    ]]))
    error_message = "Every phase role is a role of this partition and account, with a name of at most 64 characters."
  }
  validation {
    condition = length(distinct(flatten([for one in values(var.environments) : [for role in values(one.roles) : lower(role.arn)]]))) == length(flatten([
      for one in values(var.environments) : keys(one.roles)
    ]))
    error_message = "Every phase of every environment has a role of its own: two of these ARNs are the same (IAM finds names without regard to case)."
  }
  validation {
    condition     = alltrue(flatten([for one in values(var.environments) : [for arn in one.protected : can(regex("^arn:[a-z-]+:[a-z0-9-]+:[^*?$\"\\\\]*$", arn))]]))
    error_message = "What is protected is named by exact ARNs."
  }
  validation {
    condition = alltrue(flatten([for one in values(var.environments) : [for role in values(one.roles) : role.ceiling == null || can([
      for statement in jsondecode(role.ceiling).Statement : [statement.Action, statement.Resource]
    ])]]))
    error_message = "A ceiling is the JSON of an IAM policy whose statements have Action and Resource: take it as `phasebroker aws ceiling` printed it."
  }
  validation {
    condition = alltrue(flatten([for one in values(var.environments) : [for role in values(one.roles) : role.ceiling == null || try(alltrue([
      for statement in jsondecode(role.ceiling).Statement :
      statement.Effect == "Allow" && length(setsubtract(keys(statement), ["Effect", "Action", "Resource", "Condition"])) == 0
    ]), false)]]))
    error_message = "A ceiling only allows, and names what it allows: no Deny, NotAction, NotResource or Principal. Take it as `phasebroker aws ceiling` printed it."
  }
  validation {
    condition = alltrue(flatten([for one in values(var.environments) : [for role in values(one.roles) : role.ceiling == null || try(alltrue(flatten([
      for statement in jsondecode(role.ceiling).Statement :
      [for action in statement.Action : can(regex("^[a-z0-9-]+:[A-Za-z0-9]+$", action))]
    ])), false)]]))
    error_message = "A ceiling names exact actions, service:Name, without wildcards. Take it as `phasebroker aws ceiling` printed it."
  }
  validation {
    condition = alltrue(flatten([for one in values(var.environments) : [for name, role in one.roles : role.ceiling == null || name == "observe" || try(alltrue(flatten([
      for statement in jsondecode(role.ceiling).Statement :
      [for resource in statement.Resource : resource != "*" || length(keys(lookup(statement, "Condition", {}))) > 0 || join(",", statement.Action) == "ec2:DescribeRegions"]
    ])), false)]]))
    error_message = "Only observing may name all resources: a statement of another role with the resource * needs a condition, but for the canary's, which names regions (ec2:DescribeRegions) and nothing else."
  }
}

variable "minter_arn" {
  description = "The role with which the broker assumes the phase roles, and does nothing else."
  type        = string

  validation {
    condition     = can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:role/([!-~]+/)?[A-Za-z0-9+=,.@_-]{1,64}$", var.minter_arn))
    error_message = "The minter is one role, named by its ARN: neither an account, nor a user, nor a wildcard."
  }
}

variable "revoker_arn" {
  description = "The role with which the broker writes the Deny policy of the phase roles, and does nothing else. It belongs to the account of the phase roles."
  type        = string

  validation {
    condition     = can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:role/([!-~]+/)?[A-Za-z0-9+=,.@_-]{1,64}$", var.revoker_arn))
    error_message = "The revoker is one role, named by its ARN: neither an account, nor a user, nor a wildcard."
  }
  validation {
    condition     = lower(var.revoker_arn) != lower(var.minter_arn)
    error_message = "Minter and revoker are two roles: whoever can write the Deny policy could widen a role, and must not be able to assume it."
  }
  validation {
    condition     = try(split(":", var.revoker_arn)[4], "") == values(var.environments)[0].account
    error_message = "The revoker belongs to the account of the phase roles: IAM takes no policy writes from another account."
  }
}

variable "minter_unique_id" {
  description = "Unique id (AROA...) of the minter, needed where it belongs to another account: a trail there sees no ARN of a caller from elsewhere."
  type        = string
  default     = null

  validation {
    condition     = var.minter_unique_id == null || can(regex("^AROA[A-Z0-9]{12,28}$", var.minter_unique_id))
    error_message = "The unique id of a role begins with AROA; `aws iam get-role` shows it as RoleId."
  }
  validation {
    condition     = var.minter_unique_id != null || try(split(":", var.minter_arn)[4], "") == values(var.environments)[0].account
    error_message = "The minter belongs to another account: name its unique id too, or nobody is told of strangers who assume the roles."
  }
}

variable "minter_further_roles" {
  description = "Phase roles of other accounts that the same minter assumes; of an environment with a web identity only the one for observing."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.minter_further_roles : can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:role/([!-~]+/)?[A-Za-z0-9+=,.@_-]{1,64}$", arn)) && !strcontains(arn, "*")])
    error_message = "Name each further role by its exact ARN."
  }
}

variable "name_prefix" {
  description = "First characters of the names of everything else that is made here. No action may touch what begins with it."
  type        = string
  default     = "phasebroker-"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,22}-$", var.name_prefix))
    error_message = "The prefix has 4 to 24 characters of a-z, 0-9 and -, begins with a letter and ends with -."
  }
}

variable "path" {
  description = "IAM path of the policies, the minter and the revoker."
  type        = string
  default     = "/"

  validation {
    condition     = can(regex("^/([A-Za-z0-9+=,.@_-]+/){0,4}$", var.path))
    error_message = "A path begins and ends with /, such as /phasebroker/."
  }
}

variable "max_session_seconds" {
  description = "Longest session that the phase roles give at all. The broker asks for 900 seconds each time; 3600 is the least that AWS takes here."
  type        = number
  default     = 3600

  validation {
    condition     = var.max_session_seconds == 3600
    error_message = "Leave it at 3600, the least that AWS takes: nothing here needs a longer session, and a stolen minter would."
  }
}

variable "watched_regions" {
  description = "Further regions in which sessions may be asked for, beside those of the environments: the broker's `region` of [aws], or of [[aws.accounts]], where it is another one. Rules have to watch them."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for region in var.watched_regions : can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", region))])
    error_message = "A region is written such as eu-central-1, without wildcards."
  }
}

variable "trust_policy_quota" {
  description = "Quota of your account for the length of a trust policy."
  type        = number
  default     = 2048

  validation {
    condition     = var.trust_policy_quota >= 2048 && var.trust_policy_quota <= 4096
    error_message = "The quota of a trust policy is 2048 characters, and can be raised to 4096 at most."
  }
}

variable "key_administrators" {
  description = "Roles that administer the signing keys and can never sign with them. The role that applies this must be one of them."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.key_administrators : can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:(role|user)/[^*?]+$", arn))])
    error_message = "Name each administrator of keys by the exact ARN of a role or user."
  }
  validation {
    condition     = !contains([for arn in var.key_administrators : lower(arn)], lower(var.minter_arn)) && !contains([for arn in var.key_administrators : lower(arn)], lower(var.revoker_arn))
    error_message = "The broker uses its keys and does not administer them: take minter and revoker out of key_administrators."
  }
}

variable "key_verifiers" {
  description = "Roles that may read the public halves of the signing keys, and verify with them at AWS."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.key_verifiers : can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:(role|user)/[^*?]+$", arn))])
    error_message = "Name each verifier by the exact ARN of a role or user."
  }
}
