#compdef kubectl-shard
# zsh completion of kubectl-shard: source <(kubectl-shard completion zsh)
_kubectl_shard() {
	local -a offered
	offered=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	compadd -- "${(@)offered:#:*}"
}
compdef _kubectl_shard kubectl-shard
