# bash completion of kubectl-shard: source <(kubectl-shard completion bash)
_kubectl_shard() {
	local line
	COMPREPLY=()
	while IFS= read -r line; do
		[[ $line == :* ]] || COMPREPLY+=("$line")
	done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _kubectl_shard kubectl-shard
