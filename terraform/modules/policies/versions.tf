# Documents only: no provider, no state worth keeping, nothing that asks AWS. So it can be tested offline, and its
# JSON can be judged before anything exists.
terraform {
  required_version = ">= 1.9"
}
