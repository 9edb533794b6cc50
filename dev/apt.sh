# Packages of Debian and Ubuntu without root, for the scripts that source this.

# apt-get with a state folder of our own: no root, and the system's package
# lists stay as they are. Signatures are checked against the keyrings that the
# system already trusts.
private_apt() {
  local state=$1; shift
  apt-get -qq -o Dir::State::Lists="$state/lists" \
    -o Dir::Cache="$state/cache" -o Debug::NoLocking=1 \
    -o APT::Sandbox::User="$(id -un)" "$@"
}

# Unpacks packages into FOLDER. SOURCES is a sources list; "" is the system's own.
# Where a caller asks whether it worked, bash passes by `set -e`: each step says
# so itself.
download_debs() {  # download_debs FOLDER SOURCES PACKAGE...
  local folder=$1 sources=$2 deb; shift 2
  local state=$folder/apt list=()
  rm -rf "$folder"
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$folder/debs"
  if [ -n "$sources" ]; then
    echo "$sources" >"$state/sources.list"
    list=(-o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=-)
  fi
  private_apt "$state" "${list[@]}" update || return
  (cd "$folder/debs" && private_apt "$state" "${list[@]}" download "$@") ||
    return
  for deb in "$folder"/debs/*.deb; do
    dpkg -x "$deb" "$folder" || return
  done
  rm -rf "$state" "$folder/debs"
}
