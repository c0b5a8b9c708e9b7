variable "region" {
  description = "The region of the repositories."
  type        = string
  default     = "eu-west-1"
}

variable "account_id" {
  description = "The account that the resources belong to; null takes whichever the credentials belong to."
  type        = string
  default     = null

  validation {
    condition     = var.account_id == null ? true : can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An AWS account's ID has 12 digits."
  }
}

variable "tag" {
  description = "The grid's TAG: it names the key's alias and the mark on what this grid uses."
  type        = string
  default     = "mainline"

  validation {
    condition     = can(regex("^[a-zA-Z0-9_-]{1,100}$", var.tag))
    error_message = "A tag has 1 to 100 letters, digits, - or _: it becomes part of the alias ecr/<tag>-htc."
  }
}

variable "older_aliases" {
  description = "Aliases of the key that an older HTC-Grid made, without `alias/`: they stay until the key goes."
  type        = set(string)
  default     = []
}

variable "repositories" {
  description = "The repositories that this grid creates and manages."
  type        = set(string)

  validation {
    condition = alltrue([
      for name in var.repositories :
      can(regex("^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$", name))
      && length(name) >= 2 && length(name) <= 256
    ])
    error_message = "A repository's name has 2 to 256 lower-case letters, digits, and between them . _ - or /."
  }
}

variable "existing_repositories" {
  description = "The repositories that this grid uses and somebody else manages, with their URLs. They are only listed."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(var.repositories, keys(var.existing_repositories))) == 0
    error_message = "A repository is either managed here or exists already, not both."
  }
}

variable "pull_through_cache_rules" {
  description = "The pull-through cache rules that this grid creates and manages: prefix to upstream registry."
  type = map(object({
    upstream                   = string
    credential_arn             = optional(string)
    custom_role_arn            = optional(string)
    upstream_repository_prefix = optional(string)
  }))

  validation {
    condition     = alltrue([for prefix, rule in var.pull_through_cache_rules : !strcontains(rule.upstream, "/")])
    error_message = "An upstream is a registry's host, as in public.ecr.aws: no scheme and no path."
  }
}

variable "existing_pull_through_cache_rules" {
  description = "The rules that this grid uses and somebody else manages: prefix to upstream registry. They are only listed."
  type        = map(string)
  default     = {}

  validation {
    condition = length(setintersection(
      keys(var.pull_through_cache_rules),
      keys(var.existing_pull_through_cache_rules),
    )) == 0
    error_message = "A pull-through cache rule is either managed here or exists already, not both."
  }
}

variable "creation_template" {
  description = "The prefixes of pull-through cache rules whose repositories get the grid's key, lifecycle and tags from ECR, by this role; null leaves them ECR's defaults."
  type = object({
    role_arn = string
    prefixes = set(string)
  })
  default = null

  validation {
    condition = var.creation_template == null ? true : (
      length(setsubtract(
        var.creation_template.prefixes,
        concat(keys(var.pull_through_cache_rules), keys(var.existing_pull_through_cache_rules)),
      )) == 0
    )
    error_message = "A creation template is for a pull-through cache rule."
  }
}

variable "runtimes" {
  description = "The repository of the Lambda runtimes and the tags that the grid runs."
  type = object({
    repository = string
    tags       = set(string)
  })
  default = {
    repository = "lambda"
    tags       = []
  }

  validation {
    condition     = length(var.runtimes.tags) <= 24
    error_message = "ECR takes 50 lifecycle rules, two for each runtime: 24 runtimes at most."
  }
}

variable "protect_build_tags" {
  description = "Whether ECR refuses to move a build's tag (*-sha256-*) in the runtimes' repository."
  type        = bool
  default     = false
}

variable "keep_builds" {
  description = "How many builds of each runtime ECR keeps beside the one that runs; null keeps all."
  type        = number
  default     = null

  validation {
    condition     = var.keep_builds == null ? true : var.keep_builds >= 1 && floor(var.keep_builds) == var.keep_builds
    error_message = "The number of builds to keep is a whole number from 1."
  }
}

variable "pull_accounts" {
  description = "Other AWS accounts that may pull from the managed repositories."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for account in var.pull_accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "An AWS account's ID has 12 digits."
  }
}

variable "scan_on_push" {
  description = "Whether ECR scans an image when it is pushed."
  type        = bool
  default     = true
}

variable "force_delete" {
  description = "Whether a repository that holds images can be destroyed. cargo xtask destroy-images shows them first."
  type        = bool
  default     = true
}

variable "kms_deletion_window" {
  description = "Days between the key's destruction and the moment when it cannot be had back."
  type        = number
  default     = 7

  validation {
    condition     = var.kms_deletion_window >= 7 && var.kms_deletion_window <= 30
    error_message = "KMS waits 7 to 30 days."
  }
}

variable "kms_key_admin_roles" {
  description = "Names of IAM roles that administer the key, beside whom the account's IAM policies let."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "More tags for everything that takes tags."
  type        = map(string)
  default     = {}
}
