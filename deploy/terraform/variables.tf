variable "ssh_public_key" {
  description = "The public key with which the operator signs in."
  type        = string
}

variable "allowed_sources" {
  description = "Networks that reach the chat. It has no TLS: put a proxy with TLS before it, and name that proxy here."
  type        = list(string)

  validation {
    condition     = length(var.allowed_sources) > 0
    error_message = "Name at least one network, such as 203.0.113.7/32."
  }
}

variable "operator_sources" {
  description = "Networks from which the operator signs in."
  type        = list(string)
  default     = ["0.0.0.0/0", "::/0"]
}

variable "name" {
  description = "The name of the machine, its firewall and its key."
  type        = string
  default     = "flack"
}

variable "server_type" {
  description = "The type of the machine: x86, with 2 cores and 4 GB; the stack uses 400 MB."
  type        = string
  default     = "cx23"
}

variable "location" {
  description = "The data centre."
  type        = string
  default     = "fsn1"
}

variable "public_hosts" {
  description = "Host names of the chat. The address of the machine is one, too."
  type        = list(string)
  default     = ["localhost"]
}

variable "stage" {
  description = "What a new stack begins with: services or monolith."
  type        = string
  default     = "services"

  validation {
    condition     = contains(["services", "monolith"], var.stage)
    error_message = "The stages are services and monolith."
  }
}

variable "tag" {
  description = "The tag of the images that the output start copies to the machine."
  type        = string
  default     = "latest"
}
