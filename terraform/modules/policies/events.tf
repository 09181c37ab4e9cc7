# What somebody has to hear of: EventBridge patterns over what CloudTrail records. IAM finds names without regard to
# case, so the patterns do too; a key that may be absent (a user has no session, a default needs no parameter) counts.
# A call that AWS refuses is told of only where AWS records it so that a role can be seen: the account of the role may have
# no record of a refused call from another account, some calls of STS without credentials have none anywhere, and the
# record of a refused call may have requestParameters null.
locals {
  via_trail = { "detail-type" = ["AWS API Call via CloudTrail"] }

  broker_names = distinct(concat(
    [element(split("/", var.revoker_arn), -1)],
    local.foreign ? [] : [element(split("/", var.minter_arn), -1)],
  ))
  our_role_names     = sort(distinct(concat([for role in values(local.roles) : role.name], local.broker_names)))
  phase_names_match  = [for name in sort([for role in values(local.roles) : role.name]) : { "equals-ignore-case" = name }]
  broker_names_match = [for name in sort(local.broker_names) : { "equals-ignore-case" = name }]
  our_names_match    = [for name in local.our_role_names : { "equals-ignore-case" = name }]
  arns_match         = [for arn in local.role_arns : { "equals-ignore-case" = arn }]
  minted_match       = [for arn in local.minted_arns : { "equals-ignore-case" = arn }]
  signed_match       = [for arn in local.signed_arns : { "equals-ignore-case" = arn }]

  # A trail of this account sees the ARN of a caller of this account, and of others only account and unique id.
  # (Two shapes cannot be the arms of one conditional.)
  not_the_minter = {
    elsewhere = [
      { principalId = [{ "anything-but" = { prefix = "${coalesce(var.minter_unique_id, "AROA")}:" } }] },
      { principalId = [{ exists = false }] },
    ]
    here = [
      { sessionContext = { sessionIssuer = { arn = [{ "anything-but" = [var.minter_arn] }] } } },
      { sessionContext = { sessionIssuer = { arn = [{ exists = false }] } } },
    ]
  }[local.foreign ? "elsewhere" : "here"]

  event_patterns = merge(local.patterns, { for name, pattern in local.signed_patterns : name => pattern if length(local.signed_arns) > 0 })

  # Where the approvers' side signs.
  signed_patterns = {
    # Its role is assumed, or tried where that is recorded, with anything but a token of its issuer.
    assumed-without-token = jsonencode(merge(local.via_trail, {
      source = ["aws.sts"]
      detail = {
        eventSource       = ["sts.amazonaws.com"]
        eventName         = [{ prefix = "AssumeRole" }]
        requestParameters = { roleArn = local.signed_match }
        userIdentity = { "$or" = [
          { type = [{ "anything-but" = ["WebIdentityUser"] }] },
          { identityProvider = [{ "anything-but" = [for provider in values(local.identity_providers) : provider.arn] }] },
          { identityProvider = [{ exists = false }] },
        ] }
      }
    }))

    # Whom AWS believes in the place of the approvers' side changes at all.
    identity-provider-changed = jsonencode(merge(local.via_trail, {
      source = ["aws.iam"]
      detail = {
        eventSource = ["iam.amazonaws.com"]
        eventName = [
          "AddClientIDToOpenIDConnectProvider",
          "CreateOpenIDConnectProvider",
          "DeleteOpenIDConnectProvider",
          "RemoveClientIDFromOpenIDConnectProvider",
          "UpdateOpenIDConnectProviderThumbprint",
        ]
      }
    }))
  }

  patterns = {
    # A phase role is assumed, or tried where that is recorded, by anyone but the broker.
    assumed-by-others = jsonencode(merge(local.via_trail, {
      source = ["aws.sts"]
      detail = {
        eventSource       = ["sts.amazonaws.com"]
        eventName         = [{ prefix = "AssumeRole" }]
        requestParameters = { roleArn = local.minted_match }
        userIdentity      = { "$or" = local.not_the_minter }
      }
    }))

    # A session longer than the broker asks for; without a number AWS gives an hour.
    long-session = jsonencode(merge(local.via_trail, {
      source = ["aws.sts"]
      detail = {
        eventSource = ["sts.amazonaws.com"]
        eventName   = [{ prefix = "AssumeRole" }]
        requestParameters = {
          roleArn = local.arns_match
          "$or" = [
            { durationSeconds = [{ numeric = [">", 900] }] },
            { durationSeconds = [{ exists = false }] },
          ]
        }
      }
    }))

    # The inline policy of a phase role is written by anyone but the revoker, or is another than ours.
    inline-policy = jsonencode(merge(local.via_trail, {
      source = ["aws.iam"]
      detail = {
        eventSource       = ["iam.amazonaws.com"]
        eventName         = ["DeleteRolePolicy", "PutRolePolicy"]
        requestParameters = { roleName = local.phase_names_match }
        "$or" = [
          { userIdentity = { sessionContext = { sessionIssuer = { arn = [{ "anything-but" = [var.revoker_arn] }] } } } },
          { userIdentity = { sessionContext = { sessionIssuer = { arn = [{ exists = false }] } } } },
          { requestParameters = { policyName = [{ "anything-but" = ["phasebroker-deny"] }] } },
        ]
      }
    }))

    # Boundary, trust or attached policies of one of our roles, or the role itself, change at all.
    role-changed = jsonencode(merge(local.via_trail, {
      source = ["aws.iam"]
      detail = {
        eventSource = ["iam.amazonaws.com"]
        eventName = [
          "AttachRolePolicy",
          "DeleteRole",
          "DeleteRolePermissionsBoundary",
          "DetachRolePolicy",
          "PutRolePermissionsBoundary",
          "TagRole",
          "UntagRole",
          "UpdateAssumeRolePolicy",
          "UpdateRole",
        ]
        requestParameters = { roleName = local.our_names_match }
      }
    }))

    # Minter or revoker is given a policy of its own text; what is attached to it is told of above. They have none.
    broker-policy = jsonencode(merge(local.via_trail, {
      source = ["aws.iam"]
      detail = {
        eventSource       = ["iam.amazonaws.com"]
        eventName         = ["DeleteRolePolicy", "PutRolePolicy"]
        requestParameters = { roleName = local.broker_names_match }
      }
    }))

    # A boundary or ceiling gets another text.
    policy-changed = jsonencode(merge(local.via_trail, {
      source = ["aws.iam"]
      detail = {
        eventSource       = ["iam.amazonaws.com"]
        eventName         = ["CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion", "SetDefaultPolicyVersion"]
        requestParameters = { policyArn = [{ prefix = { "equals-ignore-case" = "${local.arn_of_iam}:policy${var.path}${var.name_prefix}" } }] }
      }
    }))

    # What would have told of all this is turned off, first the trail. Each region hears of its own rules and topic; of its
    # keys, and of the trail's, modules/key-pattern. Whoever turns off all of it at once, in the minutes that a record takes,
    # is not told of any more: the records stay.
    trail-changed = jsonencode(merge(local.via_trail, {
      source = ["aws.cloudtrail"]
      detail = {
        eventSource = ["cloudtrail.amazonaws.com"]
        eventName   = ["DeleteTrail", "PutEventSelectors", "StopLogging", "UpdateTrail"]
      }
    }))
    alarms-changed = jsonencode(merge(local.via_trail, {
      source = ["aws.events", "aws.sns"]
      detail = {
        eventSource = ["events.amazonaws.com", "sns.amazonaws.com"]
        eventName = [
          "AddPermission",
          "DeleteRule",
          "DeleteTopic",
          "DisableRule",
          "PutRule",
          "PutTargets",
          "RemovePermission",
          "RemoveTargets",
          "SetSubscriptionAttributes",
          "SetTopicAttributes",
          "Unsubscribe",
        ]
        requestParameters = { "$or" = [
          { name = [{ prefix = var.name_prefix }] },
          { rule = [{ prefix = var.name_prefix }] },
          { topicArn = [{ wildcard = local.alarms_topic }] },
          { subscriptionArn = [{ wildcard = "${local.alarms_topic}:*" }] },
        ] }
      }
    }))
  }

  alarms_topic = "arn:${local.partition}:sns:*:${local.account}:${var.name_prefix}alarms"

  # EventBridge hears of IAM in one region of each partition.
  iam_events_region = {
    aws        = "us-east-1"
    aws-cn     = "cn-north-1"
    aws-us-gov = "us-gov-west-1"
    aws-eusc   = "eusc-de-east-1"
  }[local.partition]
}
