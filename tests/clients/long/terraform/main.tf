# The resources of IAM that modules use most. `step` changes whatever can be changed in place.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }
variable "metadata" { type = string }
variable "step" {
  type    = number
  default = 1
}

provider "aws" {
  region                  = "us-east-1"
  skip_metadata_api_check = true
  endpoints {
    iam = var.endpoint
    sts = var.endpoint
  }
  default_tags {
    tags = { managed-by = "terraform" }
  }
}

locals {
  tags = { step = tostring(var.step), Größe = "1" }
  verb = var.step == 1 ? "Get" : "List"
  document = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["s3:${local.verb}*", "s3:Put*"], Resource = "arn:aws:s3:::releases/*" }]
  })
  trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com", AWS = data.aws_caller_identity.current.arn }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = tostring(var.step) } }
    }]
  })
}

data "aws_caller_identity" "current" {}

data "aws_iam_policy" "of_aws" {
  name = "ReadOnlyAccess"
}

# Users and groups.

resource "aws_iam_user" "first" {
  name                 = "tf-first"
  path                 = var.step == 1 ? "/tf/" : "/tf/moved/"
  permissions_boundary = var.step == 1 ? data.aws_iam_policy.of_aws.arn : aws_iam_policy.plain.arn
  force_destroy        = true
  tags                 = local.tags
}

resource "aws_iam_user" "second" {
  name = var.step == 1 ? "tf-second" : "tf-renamed"
}

resource "aws_iam_user_policy" "inline" {
  name   = "inline"
  user   = aws_iam_user.first.name
  policy = local.document
}

resource "aws_iam_user_policy_attachment" "first" {
  user       = aws_iam_user.first.name
  policy_arn = aws_iam_policy.plain.arn
}

resource "aws_iam_access_key" "first" {
  user   = aws_iam_user.first.name
  status = var.step == 1 ? "Active" : "Inactive"
}

resource "aws_iam_user_login_profile" "first" {
  user                    = aws_iam_user.first.name
  password_length         = 24
  password_reset_required = true
  # Nothing can read these, so that they would differ after an import.
  lifecycle {
    ignore_changes = [password_length, password_reset_required]
  }
}

resource "aws_iam_virtual_mfa_device" "first" {
  virtual_mfa_device_name = "tf-device"
  path                    = "/tf/"
  tags                    = local.tags
}

resource "aws_iam_group" "first" {
  name = var.step == 1 ? "tf-group" : "tf-group-renamed"
  path = "/tf/"
}

resource "aws_iam_group" "second" {
  name = "tf-group-second"
}

resource "aws_iam_group_policy" "inline" {
  name   = "inline"
  group  = aws_iam_group.first.name
  policy = local.document
}

resource "aws_iam_group_policy_attachment" "first" {
  group      = aws_iam_group.first.name
  policy_arn = aws_iam_policy.plain.arn
}

resource "aws_iam_group_membership" "first" {
  name  = "members"
  group = aws_iam_group.first.name
  users = var.step == 1 ? [aws_iam_user.first.name] : [aws_iam_user.first.name, aws_iam_user.second.name]
}

resource "aws_iam_user_group_membership" "second" {
  user   = aws_iam_user.second.name
  groups = [aws_iam_group.second.name]
}

# Policies and roles.

resource "aws_iam_policy" "plain" {
  name        = "tf-plain"
  path        = "/tf/"
  description = "Größe <1> & \"more\""
  policy      = local.document
  tags        = local.tags
}

resource "aws_iam_policy" "everywhere" {
  name_prefix = "tf-everywhere-"
  policy      = local.document
}

resource "aws_iam_policy_attachment" "everywhere" {
  name       = "everywhere"
  policy_arn = aws_iam_policy.everywhere.arn
  users      = [aws_iam_user.second.name]
  groups     = [aws_iam_group.second.name]
  roles      = var.step == 1 ? [] : [aws_iam_role.first.name]
}

resource "aws_iam_role" "first" {
  name                  = "tf-role"
  path                  = "/tf/"
  description           = var.step == 1 ? "" : "Serves."
  max_session_duration  = var.step == 1 ? 3600 : 43200
  permissions_boundary  = var.step == 1 ? null : data.aws_iam_policy.of_aws.arn
  assume_role_policy    = local.trust
  force_detach_policies = true
  tags                  = local.tags
}

resource "aws_iam_role_policy" "inline" {
  name   = "inline"
  role   = aws_iam_role.first.name
  policy = local.document
}

resource "aws_iam_role_policy_attachment" "own" {
  role       = aws_iam_role.first.name
  policy_arn = aws_iam_policy.plain.arn
}

resource "aws_iam_role_policy_attachment" "of_aws" {
  role       = aws_iam_role.first.name
  policy_arn = data.aws_iam_policy.of_aws.arn
}

resource "aws_iam_role" "second" {
  name_prefix        = "tf-"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policies_exclusive" "second" {
  role_name    = aws_iam_role.second.name
  policy_names = []
}

resource "aws_iam_role_policy_attachments_exclusive" "second" {
  role_name   = aws_iam_role.second.name
  policy_arns = var.step == 1 ? [aws_iam_policy.plain.arn] : [data.aws_iam_policy.of_aws.arn]
}

resource "aws_iam_instance_profile" "first" {
  name = "tf-profile"
  path = "/tf/"
  role = var.step == 1 ? aws_iam_role.first.name : aws_iam_role.second.name
  tags = local.tags
}

# Providers and the account.

resource "aws_iam_openid_connect_provider" "first" {
  url             = "https://token.example.com/tf"
  client_id_list  = var.step == 1 ? ["sts.amazonaws.com", "other"] : ["sts.amazonaws.com"]
  thumbprint_list = var.step == 1 ? ["abababababababababababababababababababab"] : ["cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"]
  tags            = local.tags
}

resource "aws_iam_saml_provider" "first" {
  name                   = "tf-saml"
  saml_metadata_document = var.step == 1 ? var.metadata : "${var.metadata}<!-- renewed -->"
  tags                   = local.tags
}

resource "aws_iam_account_password_policy" "account" {
  minimum_password_length        = var.step == 1 ? 10 : 12
  require_numbers                = true
  require_symbols                = true
  require_lowercase_characters   = true
  require_uppercase_characters   = true
  allow_users_to_change_password = true
  max_password_age               = var.step == 1 ? 0 : 90
  password_reuse_prevention      = var.step == 1 ? 0 : 5
}

resource "aws_iam_account_alias" "account" {
  account_alias = var.step == 1 ? "tf-acme" : "tf-acme-next"
}

# What modules look up.

data "aws_iam_roles" "all" {
  path_prefix = "/tf/"
  depends_on  = [aws_iam_role.first]
}

data "aws_iam_users" "all" {
  path_prefix = "/tf/"
  depends_on  = [aws_iam_user.first]
}

data "aws_iam_role" "first" {
  name = aws_iam_role.first.name
}

data "aws_iam_user" "first" {
  user_name = aws_iam_user.first.name
}

data "aws_iam_group" "first" {
  group_name = aws_iam_group.first.name
  depends_on = [aws_iam_group_membership.first]
}

data "aws_iam_instance_profile" "first" {
  name = aws_iam_instance_profile.first.name
}

data "aws_iam_instance_profiles" "of_role" {
  role_name  = aws_iam_instance_profile.first.role
  depends_on = [aws_iam_instance_profile.first]
}

data "aws_iam_access_keys" "first" {
  user       = aws_iam_access_key.first.user
  depends_on = [aws_iam_access_key.first]
}

data "aws_iam_openid_connect_provider" "first" {
  url        = "https://token.example.com/tf"
  depends_on = [aws_iam_openid_connect_provider.first]
}

data "aws_iam_saml_provider" "first" {
  arn = aws_iam_saml_provider.first.arn
}

data "aws_iam_account_alias" "current" {
  depends_on = [aws_iam_account_alias.account]
}

data "aws_iam_session_context" "current" {
  arn = data.aws_caller_identity.current.arn
}

data "aws_iam_principal_policy_simulation" "first" {
  action_names      = ["s3:PutObject"]
  resource_arns     = ["arn:aws:s3:::releases/1"]
  policy_source_arn = aws_iam_user.first.arn
  depends_on        = [aws_iam_user_policy.inline, aws_iam_user_policy_attachment.first, aws_iam_group_membership.first]
}

output "found" {
  value = {
    roles      = sort(data.aws_iam_roles.all.names)
    users      = sort(data.aws_iam_users.all.names)
    role       = data.aws_iam_role.first.unique_id == aws_iam_role.first.unique_id
    user       = data.aws_iam_user.first.user_id == aws_iam_user.first.unique_id
    members    = sort([for user in data.aws_iam_group.first.users : user.user_name])
    profile    = data.aws_iam_instance_profile.first.role_name == aws_iam_instance_profile.first.role
    profiles   = tolist(data.aws_iam_instance_profiles.of_role.names)
    keys       = [for key in data.aws_iam_access_keys.first.access_keys : key.status]
    oidc       = sort(data.aws_iam_openid_connect_provider.first.client_id_list)
    saml       = data.aws_iam_saml_provider.first.saml_metadata_document == aws_iam_saml_provider.first.saml_metadata_document
    alias      = data.aws_iam_account_alias.current.account_alias
    identity   = data.aws_iam_session_context.current.issuer_arn
    simulation = data.aws_iam_principal_policy_simulation.first.all_allowed
  }
}

# What `terraform import` takes, by the address of the resource.
output "ids" {
  value = {
    "aws_iam_user.first"                               = aws_iam_user.first.name
    "aws_iam_user.second"                              = aws_iam_user.second.name
    "aws_iam_user_policy.inline"                       = "${aws_iam_user.first.name}:inline"
    "aws_iam_user_policy_attachment.first"             = "${aws_iam_user.first.name}/${aws_iam_policy.plain.arn}"
    "aws_iam_access_key.first"                         = aws_iam_access_key.first.id
    "aws_iam_user_login_profile.first"                 = aws_iam_user.first.name
    "aws_iam_virtual_mfa_device.first"                 = aws_iam_virtual_mfa_device.first.arn
    "aws_iam_group.first"                              = aws_iam_group.first.name
    "aws_iam_group.second"                             = aws_iam_group.second.name
    "aws_iam_group_policy.inline"                      = "${aws_iam_group.first.name}:inline"
    "aws_iam_group_policy_attachment.first"            = "${aws_iam_group.first.name}/${aws_iam_policy.plain.arn}"
    "aws_iam_user_group_membership.second"             = "${aws_iam_user.second.name}/${aws_iam_group.second.name}"
    "aws_iam_policy.plain"                             = aws_iam_policy.plain.arn
    "aws_iam_policy.everywhere"                        = aws_iam_policy.everywhere.arn
    "aws_iam_role.first"                               = aws_iam_role.first.name
    "aws_iam_role.second"                              = aws_iam_role.second.name
    "aws_iam_role_policy.inline"                       = "${aws_iam_role.first.name}:inline"
    "aws_iam_role_policy_attachment.own"               = "${aws_iam_role.first.name}/${aws_iam_policy.plain.arn}"
    "aws_iam_role_policy_attachment.of_aws"            = "${aws_iam_role.first.name}/${data.aws_iam_policy.of_aws.arn}"
    "aws_iam_role_policies_exclusive.second"           = aws_iam_role.second.name
    "aws_iam_role_policy_attachments_exclusive.second" = aws_iam_role.second.name
    "aws_iam_instance_profile.first"                   = aws_iam_instance_profile.first.name
    "aws_iam_openid_connect_provider.first"            = aws_iam_openid_connect_provider.first.arn
    "aws_iam_saml_provider.first"                      = aws_iam_saml_provider.first.arn
    "aws_iam_account_password_policy.account"          = "iam-account-password-policy"
    "aws_iam_account_alias.account"                    = aws_iam_account_alias.account.account_alias
  }
}
