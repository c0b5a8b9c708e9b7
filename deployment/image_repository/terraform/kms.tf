data "aws_iam_role" "key_administrator" {
  for_each = toset(var.kms_key_admin_roles)

  name = each.value
}

locals {
  alias = "ecr/${var.tag}-htc"

  account_root = "arn:${local.partition}:iam::${local.account_id}:root"

  # The root stands for whomever the account's own IAM policies let: nobody is named who may be gone tomorrow, since KMS refuses a
  # policy that names a principal that is no more.
  key_administrators = concat(
    [local.account_root],
    [for role in data.aws_iam_role.key_administrator : role.arn],
  )

  key_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Administration"
        Effect    = "Allow"
        Principal = { AWS = local.key_administrators }
        Action = [
          "kms:CancelKeyDeletion",
          "kms:CreateAlias",
          "kms:DeleteAlias",
          "kms:Describe*",
          "kms:Disable*",
          "kms:Enable*",
          "kms:Get*",
          "kms:List*",
          "kms:Put*",
          "kms:Revoke*",
          "kms:RotateKeyOnDemand",
          "kms:ScheduleKeyDeletion",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:Update*",
        ]
        Resource = "*"
      },
      {
        # Nobody uses the key directly: ECR does, for whoever of this account may push, pull or create a repository.
        Sid       = "UseThroughEcr"
        Effect    = "Allow"
        Principal = { AWS = "*" }
        Action = [
          "kms:CreateGrant",
          "kms:Decrypt",
          "kms:DescribeKey",
          "kms:Encrypt",
          "kms:GenerateDataKey*",
          "kms:ReEncrypt*",
          "kms:RetireGrant",
        ]
        Resource = "*"
        Condition = {
          StringEquals = {
            "kms:CallerAccount" = local.account_id
            "kms:ViaService"    = "ecr.${var.region}.${local.dns_suffix}"
          }
        }
      },
    ]
  }
}

resource "aws_kms_key" "ecr" {
  description             = "CMK KMS Key used to encrypt ECR Repositories"
  deletion_window_in_days = var.kms_deletion_window
  enable_key_rotation     = true
  policy                  = jsonencode(local.key_policy)
}

# The grid's alias, and what its state had before. Each has the key that HTC-Grid's state knows it by, since a `moved` block
# cannot name an instance by a variable.
resource "aws_kms_alias" "ecr" {
  for_each = setunion([local.alias], var.older_aliases)

  name          = "alias/${each.value}"
  target_key_id = aws_kms_key.ecr.key_id
}

moved {
  from = module.ecr_kms_key.aws_kms_key.this[0]
  to   = aws_kms_key.ecr
}

moved {
  from = module.ecr_kms_key.aws_kms_alias.this
  to   = aws_kms_alias.ecr
}
