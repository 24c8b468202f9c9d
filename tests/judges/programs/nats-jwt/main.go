// nats-jwt reads tokens as nats-server does, with the library that nats-server and nsc use.
//
// Usage: nats-jwt OPERATOR ACCOUNT CREDS...: files with the token of an operator, of an account, and credentials of
// users. It says what each is, and ends with 1 at the first that is not valid, or not signed by whom it should be.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func main() {
	if err := judge(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func judge(operatorFile, accountFile string, credsFiles []string) error {
	operator, err := jwt.DecodeOperatorClaims(read(operatorFile))
	if err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	if err := valid("operator", operator); err != nil {
		return err
	}
	account, err := jwt.DecodeAccountClaims(read(accountFile))
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	if err := valid("account", account); err != nil {
		return err
	}
	if !operator.DidSign(account) {
		return fmt.Errorf("account: not signed by its operator")
	}
	for _, file := range credsFiles {
		if err := judgeUser(account, file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func judgeUser(account *jwt.AccountClaims, file string) error {
	contents := []byte(read(file))
	token, err := jwt.ParseDecoratedJWT(contents)
	if err != nil {
		return err
	}
	user, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return err
	}
	if err := valid("user "+user.Name, user); err != nil {
		return err
	}
	if !account.DidSign(user) {
		return fmt.Errorf("not signed by a key of its account")
	}
	scope, ok := account.SigningKeys.GetScope(user.Issuer)
	if !ok || scope == nil {
		return fmt.Errorf("not signed by a scoped key")
	}
	if err := scope.ValidateScopedSigner(user); err != nil {
		return err
	}
	pair, err := jwt.ParseDecoratedUserNKey(contents)
	if err != nil {
		return err
	}
	public, err := pair.PublicKey()
	if err != nil || public != user.Subject || !nkeys.IsValidPublicUserKey(public) {
		return fmt.Errorf("its seed is not that of its token")
	}
	return nil
}

func valid(what string, claims jwt.Claims) error {
	results := jwt.CreateValidationResults()
	claims.Validate(results)
	if !results.IsEmpty() {
		return fmt.Errorf("%s: %s", what, results.Issues[0].Description)
	}
	fmt.Printf("%s: valid\n", what)
	return nil
}

func read(file string) string {
	contents, err := os.ReadFile(file)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return strings.TrimSpace(string(contents))
}
