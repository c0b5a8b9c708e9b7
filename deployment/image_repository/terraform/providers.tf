terraform {
  # OpenTofu's numbers count here too: 1.10.2 is its first release that locks the state in S3 itself and encrypts that lock.
  # Terraform needs 1.11 for that; cargo xtask checks which of the two it runs.
  required_version = ">= 1.10.2"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # 6.8.0 is the first with image_tag_mutability_exclusion_filter; all else that is used here came before.
      version = "~> 6.8"
    }
  }

  # Bucket, region and the bucket's key come from `cargo xtask init-images` as -backend-config. The key is the one that
  # HTC-Grid has always used, so that an account deployed by its Makefile keeps its state.
  backend "s3" {
    key          = ".terraform/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

locals {
  # Grids share repositories. Each one marks those that it uses, so that destroying a grid leaves what others need.
  mark_prefix = "htc-grid/"
}

provider "aws" {
  region = var.region

  # Credentials of another account than the one that was planned for are refused before anything is read.
  allowed_account_ids = var.account_id == null ? null : [var.account_id]

  default_tags {
    tags = merge(var.tags, { "${local.mark_prefix}${var.tag}" = "used" })
  }

  # This grid's mark is set at creation; the marks of the others come and go without being drift of ours.
  ignore_tags {
    key_prefixes = [local.mark_prefix]
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  dns_suffix = data.aws_partition.current.dns_suffix
}
