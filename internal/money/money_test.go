package money_test

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/holdfast/internal/money"
)

func ExampleAmount_Format() {
	fmt.Println(money.Amount{Value: 125, Currency: "EUR"}.Format())
	fmt.Println(money.Amount{Value: 125, Currency: "JPY"}.Format())
	fmt.Println(money.Amount{Value: -5, Currency: "KWD"}.Format())
	// Output:
	// 1.25 EUR
	// 125 JPY
	// -0.005 KWD
}

func TestFormatSetsThePointByExponent(t *testing.T) {
	t.Parallel()
	tests := []struct {
		amount money.Amount
		want   string
	}{
		{money.Amount{Value: 0, Currency: "EUR"}, "0.00 EUR"},
		{money.Amount{Value: 5, Currency: "EUR"}, "0.05 EUR"},
		{money.Amount{Value: -125, Currency: "EUR"}, "-1.25 EUR"},
		{money.Amount{Value: -7, Currency: "JPY"}, "-7 JPY"},
		{money.Amount{Value: 12345, Currency: "CLF"}, "1.2345 CLF"},
		{money.Amount{Value: math.MinInt64, Currency: "USD"}, "-92233720368547758.08 USD"},
		{money.Amount{Value: 125, Currency: "eur"}, `125 minor units of "eur"`},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, tt.amount.Format())
	}
}

func TestValidateRefusesWhatIsNotMoney(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		amount money.Amount
		want   string
	}{
		{"zero", money.Amount{Value: 0, Currency: "EUR"}, "amount 0 is not positive"},
		{"negative", money.Amount{Value: -1, Currency: "EUR"}, "amount -1 is not positive"},
		{"too large", money.Amount{Value: money.MaxValue + 1, Currency: "EUR"}, "largest value"},
		{"lower case", money.Amount{Value: 1, Currency: "eur"}, `currency "eur" is not an active`},
		{"no currency", money.Amount{Value: 1}, `currency "" is not an active`},
		{"replaced currency", money.Amount{Value: 1, Currency: "HRK"}, `currency "HRK" is not an active`},
		{"metal", money.Amount{Value: 1, Currency: "XAU"}, `currency "XAU" is not an active`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, tt.amount.Validate(), tt.want)
		})
	}
	require.NoError(t, money.Amount{Value: 1, Currency: "EUR"}.Validate())
	require.NoError(t, money.Amount{Value: money.MaxValue, Currency: "JPY"}.Validate())
}

func TestTheTableHoldsTheActiveCurrencies(t *testing.T) {
	t.Parallel()
	perExponent := map[int]int{}
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			for c := 'A'; c <= 'Z'; c++ {
				if exponent, ok := money.Exponent(string([]rune{a, b, c})); ok {
					perExponent[exponent]++
				}
			}
		}
	}
	require.Equal(t, map[int]int{0: 17, 2: 132, 3: 7, 4: 2}, perExponent)
}

func TestCheckedAddIsExactOrRefused(t *testing.T) {
	t.Parallel()
	edges := rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64, math.MinInt64, money.MaxValue})
	values := rapid.OneOf(rapid.Int64(), edges)
	rapid.Check(t, func(t *rapid.T) {
		a, b := values.Draw(t, "a"), values.Draw(t, "b")
		exact := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
		sum, ok := money.CheckedAdd(a, b)
		if ok != exact.IsInt64() {
			t.Fatalf("CheckedAdd(%d, %d) ok = %v, exact sum %s", a, b, ok, exact)
		}
		if ok && sum != exact.Int64() {
			t.Fatalf("CheckedAdd(%d, %d) = %d, exact sum %s", a, b, sum, exact)
		}
	})
}
