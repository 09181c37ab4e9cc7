variable "environments" {
  description = "Environments of this account, of what `phasebroker aws ceiling` printed; see modules/policies."
  type        = any
}

variable "broker_principals" {
  description = "ARNs of the roles that the broker's host runs as; they alone become minter and revoker. No agent may run as one of them."
  type        = list(string)

  validation {
    condition     = length(var.broker_principals) > 0 && alltrue([for arn in var.broker_principals : can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "Name the role of the broker's host by its exact ARN: neither an account, nor a user, nor a wildcard."
  }
}

variable "doctor_principals" {
  description = "ARNs of further roles that may become the doctor, which only reads: operators who run `phasebroker doctor`."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.doctor_principals : can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "Name each role by its exact ARN: neither an account, nor a user, nor a wildcard."
  }
}

variable "further_roles" {
  description = "Phase roles of other accounts that the same broker assumes: their exact ARNs. Of an environment with a web identity only the one for observing: a minter that is taken over may not even ask for the others."
  type        = list(string)
  default     = []
}

variable "further_revokers" {
  description = "Revokers of other accounts (modules/target-account) that this account's revoker may become: their exact ARNs."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.further_revokers : can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "Name each revoker by its exact ARN."
  }
}

variable "key_administrators" {
  description = "Roles that administer keys and can never sign with them. The role that applies this must be one of them."
  type        = list(string)

  validation {
    condition     = length(var.key_administrators) > 0
    error_message = "Name at least the role that applies this: a key that nobody administers cannot be repaired."
  }
}

variable "auditors" {
  description = "Roles that may read the trail and verify with the signing keys."
  type        = list(string)
  default     = []
}

variable "signing_keys" {
  description = "Signing keys to make, by use: `token` (ECC_NIST_P256) and `ledger` (ECC_NIST_EDWARDS25519; checkpoints are Ed25519). Empty while the broker keeps its keys in files."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([for use, spec in var.signing_keys : (
      use == "token" ? contains(["ECC_NIST_P256", "ECC_NIST_EDWARDS25519"], spec) : use == "ledger" && spec == "ECC_NIST_EDWARDS25519"
    )])
    error_message = "Uses are token (ECC_NIST_P256 or ECC_NIST_EDWARDS25519) and ledger (ECC_NIST_EDWARDS25519)."
  }
}

variable "trail" {
  description = "Whether to make a trail here. Without one, an equal one must exist, or nothing can be proven afterwards and no rule fires."
  type        = bool
  default     = true
}

variable "trail_keep_days" {
  description = "Days for which nobody can delete a log file."
  type        = number
  default     = 400
}

variable "watched_regions" {
  description = "Further regions in which the phase roles may be assumed, watched like those of the environments: the broker's `region` of [aws], where it is another one. In no other region can they be."
  type        = set(string)
  default     = []
}

variable "name_prefix" {
  description = "First characters of the names of everything but the phase roles, which the catalog names."
  type        = string
  default     = "phasebroker-"
}

variable "path" {
  description = "IAM path of policies, minter and revoker."
  type        = string
  default     = "/"
}

variable "tags" {
  description = "Further tags of everything made here."
  type        = map(string)
  default     = {}
}
