# What a role may do at most, as `phasebroker aws ceiling` printed it for the catalog. A session can do less: just what
# was signed.
locals {
  ceilings = { for name, role in local.roles : name => role.ceiling if role.ceiling != null }

  ceiling_statements = { for name, role in local.roles : name => jsondecode(coalesce(role.ceiling, jsonencode({ Statement = [] }))).Statement }
  ceiling_actions = { for name, statements in local.ceiling_statements : name => sort(distinct(flatten([
    for statement in statements : statement.Action
  ]))) }
}
