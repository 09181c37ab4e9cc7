# Which data events a trail has to record so that every call of an execute session can be seen: for each service whose
# data events are off by default, the resources that the ceilings name, up to the first wildcard or variable.
locals {
  data_event_types = {
    dynamodb = "AWS::DynamoDB::Table"
    kinesis  = "AWS::Kinesis::Stream"
    lambda   = "AWS::Lambda::Function"
    s3       = "AWS::S3::Object"
    sns      = "AWS::SNS::Topic"
    sqs      = "AWS::SQS::Queue"
  }
  executed_resources = distinct(flatten([for name, statements in local.ceiling_statements : local.roles[name].kind == "observe" ? [] : [
    for statement in statements : statement.Resource
  ]]))
  data_events = { for service, type in local.data_event_types : type => sort(distinct([
    for arn in local.executed_resources : split("$", split("*", split("?", arn)[0])[0])[0] if try(split(":", arn)[2], "") == service
  ])) if anytrue([for arn in local.executed_resources : try(split(":", arn)[2], "") == service]) }
}
